package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Bounds of what a worker leaves to the garbage collector. By Go's own measure there may be as much garbage as there is in use,
// stacks included: of ten thousand calls that wait, hundreds of MiB. So from littleInUse on it is less, down to half as much
// as is in use; with less still, the collector would look at all those stacks too often.
const (
	littleInUse = 64 << 20 // bytes
	usualGC     = 100      // percent, as Go has it
	leastGC     = 50
)

// boundGarbage has the collector run more often while much is in use, from now on. It does nothing where the environment says
// how often (GOGC, GOMEMLIMIT).
func boundGarbage() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	afterGC(usualGC)
}

// afterGC sets the percentage that fits what is in use, and again after each run of the collector: what it looks at is
// collected then.
func afterGC(now int) {
	if fits := gcPercent(inUse()); fits != now {
		debug.SetGCPercent(fits)
		now = fits
	}
	runtime.AddCleanup(new([64]byte), afterGC, now)
}

// gcPercent is how much garbage there may be, beside so many bytes in use.
func gcPercent(inUse uint64) int {
	return int(max(leastGC, min(usualGC, usualGC*littleInUse/max(1, inUse))))
}

// inUse is what the last run of the collector has found in use, and the stacks.
func inUse() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
