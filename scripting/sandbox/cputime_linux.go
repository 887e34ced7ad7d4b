package sandbox

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ofCPU is what limits of time are counted in, for messages.
const ofCPU = " of CPU time"

// cpuTime is how long a process has computed so far, all of its threads together. It is false when the kernel does not
// tell, as of a process that has been waited for.
func cpuTime(pid int) (time.Duration, bool) {
	const scheduled = 2 // what the kernel calls CPUCLOCK_SCHED: exact, and of the whole process
	return readClock(int32(^pid<<3 | scheduled))
}

// ownCPUTime is cpuTime of this process.
func ownCPUTime() time.Duration {
	used, ok := readClock(unix.CLOCK_PROCESS_CPUTIME_ID)
	if !ok {
		return time.Since(began) // time that passes is the more
	}
	return used
}

// unread is what a job counts as having used whose CPU time nobody has read: what passed, but never enough to make its
// script a slow one. The machine may have stood still meanwhile, and of a long step the parent knows, see answered.
func unread(passed time.Duration) time.Duration { return min(passed, shortRun) }

// readClock makes the system call without a word to Go's scheduler, which would start another thread should it take
// long, as on a busy machine: in a child that costs address space, and may be refused.
func readClock(clock int32) (time.Duration, bool) {
	var t unix.Timespec
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano()), errno == 0
}
