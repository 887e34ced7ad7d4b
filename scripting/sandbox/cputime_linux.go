package sandbox

import (
	"time"

	"golang.org/x/sys/unix"
)

// ofCPU is what limits of time are counted in, for messages.
const ofCPU = " of CPU time"

// cpuTime is how long a process has computed so far, all of its threads together. It is false when the kernel does not
// tell, as of a process that has been waited for.
func cpuTime(pid int) (time.Duration, bool) {
	const scheduled = 2 // what the kernel calls CPUCLOCK_SCHED: exact, and of the whole process
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &t); err != nil {
		return 0, false
	}
	return time.Duration(t.Nano()), true
}

// ownCPUTime is cpuTime of this process.
func ownCPUTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return time.Since(began) // time that passes is the more
	}
	return time.Duration(t.Nano())
}
