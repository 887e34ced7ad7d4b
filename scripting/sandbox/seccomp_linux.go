//go:build linux && (amd64 || arm64)

package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rule allows a system call. With conditions all of them must hold.
type rule struct {
	call  uintptr
	where []condition
}

// condition holds when the bits of mask in an argument are those of value.
type condition struct {
	arg         int
	mask, value uint64
}

// equal wants an int argument, of which the kernel looks at the lower half.
func equal(arg int, value uint64) condition { return condition{arg, 0xffff_ffff, value} }

// without wants none of the bits.
func without(arg int, bits uint64) condition { return condition{arg, bits, 0} }

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// rules are what a Go program needs that computes, reads one pipe and writes another; those that it uses most come
// first; wake is the descriptor that wakes the runtime's poller. A thread is allowed, a process is not; memory that can be executed is not; the only signal is the one by which Go
// interrupts threads, to this process.
func rules(pid, wake int) []rule {
	return []rule{
		{unix.SYS_READ, []condition{equal(0, 0)}},
		{unix.SYS_WRITE, []condition{equal(0, 1)}},
		{unix.SYS_FUTEX, nil},
		{unix.SYS_EPOLL_PWAIT, nil},
		{unix.SYS_NANOSLEEP, nil},
		{unix.SYS_MADVISE, nil},
		{unix.SYS_CLOCK_GETTIME, nil},
		{unix.SYS_SCHED_YIELD, nil},
		{unix.SYS_TGKILL, []condition{equal(0, uint64(pid)), equal(2, uint64(unix.SIGURG))}}, // by which Go interrupts its threads
		{unix.SYS_RT_SIGRETURN, nil},
		{unix.SYS_RT_SIGPROCMASK, nil},
		{unix.SYS_GETPID, nil},
		{unix.SYS_GETTID, nil},
		{unix.SYS_MMAP, []condition{without(2, unix.PROT_EXEC), {3, unix.MAP_ANONYMOUS, unix.MAP_ANONYMOUS}}},
		{unix.SYS_MUNMAP, nil},
		{unix.SYS_MPROTECT, []condition{without(2, unix.PROT_EXEC)}},
		{unix.SYS_WRITE, []condition{equal(0, 2)}},
		{unix.SYS_WRITE, []condition{equal(0, uint64(wake))}},
		{unix.SYS_READ, []condition{equal(0, uint64(wake))}},
		{unix.SYS_CLONE, []condition{{0, unix.CLONE_THREAD | namespaces, unix.CLONE_THREAD}}},
		{unix.SYS_SIGALTSTACK, nil},
		{unix.SYS_RT_SIGACTION, nil},
		{unix.SYS_SET_ROBUST_LIST, nil},
		{unix.SYS_RSEQ, nil},
		{unix.SYS_RESTART_SYSCALL, nil},
		{unix.SYS_CLOCK_NANOSLEEP, nil},
		{unix.SYS_SCHED_GETAFFINITY, []condition{equal(0, 0)}},
		{unix.SYS_GETRANDOM, nil},
		{unix.SYS_EXIT, nil},
		{unix.SYS_EXIT_GROUP, nil},
	}
}

// filterSyscalls lets all threads of this process, now and later, make the system calls that rules allows. Any other
// fails with EPERM; clone3 with ENOSYS, for its flags are behind a pointer and the C library then takes clone.
func filterSyscalls(wake int) error {
	program := filter(rules(unix.Getpid(), wake))
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("install the filter: %w", errno)
	}
	if tid != 0 {
		return fmt.Errorf("thread %d has a filter of its own", tid)
	}
	return nil
}

// Where the kernel's seccomp_data has what a filter looks at; both architectures are little endian.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16
)

// filter makes a program for the kernel's classic BPF machine.
func filter(rules []rule) []unix.SockFilter {
	program := []unix.SockFilter{
		load(offsetArch),
		jumpEqual(auditArch, 1, 0),
		result(unix.SECCOMP_RET_KILL_PROCESS),
		load(offsetCall),
	}
	for _, r := range rules {
		program = append(program, r.compile()...)
	}
	return append(program,
		jumpEqual(unix.SYS_CLONE3, 0, 1),
		result(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		result(unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM)))
}

// compile makes the part of a program that allows the call, or goes on behind its end with the call's number loaded.
func (r rule) compile() []unix.SockFilter {
	var checks []unix.SockFilter
	for _, c := range r.where {
		for half := range 2 {
			mask, value := uint32(c.mask>>(32*half)), uint32(c.value>>(32*half))
			if mask != 0 {
				checks = append(checks, load(uint32(offsetArgs+8*c.arg+4*half)), and(mask), jumpEqual(value, 0, 0))
			}
		}
	}
	body := slices.Concat(checks, []unix.SockFilter{result(unix.SECCOMP_RET_ALLOW)})
	if len(checks) > 0 {
		body = append(body, load(offsetCall)) // for the rules that follow
	}
	for i := 2; i < len(checks); i += 3 {
		body[i].Jf = uint8(len(checks) - i) // to the load at the end
	}
	return append([]unix.SockFilter{jumpEqual(uint32(r.call), 0, uint8(len(body)))}, body...)
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func and(mask uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}
}

func jumpEqual(value uint32, then, otherwise uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: then, Jf: otherwise}
}

func result(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}
