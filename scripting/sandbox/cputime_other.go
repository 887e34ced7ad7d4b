//go:build !linux

package sandbox

import "time"

// ofCPU is what limits of time are counted in, for messages.
const ofCPU = ""

// cpuTime says that it is not known how long another process has computed: time that passes counts.
func cpuTime(int) (time.Duration, bool) { return 0, false }

// ownCPUTime is time that passes, as that is what the parent counts.
func ownCPUTime() time.Duration { return time.Since(began) }

// unread is what a job counts as having used whose end came before the first look.
func unread(passed time.Duration) time.Duration { return passed }
