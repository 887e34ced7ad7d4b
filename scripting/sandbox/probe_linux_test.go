package sandbox

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/thence-dev/thence/scripting"
)

// A probe is Go code that runs inside a child, in place of a script, and tries to get out. It returns nil when it
// succeeds, which is a hole.
type probe struct {
	name string
	try  func(parent int) error
}

// paths are what system calls are handed as a bare address, which keeps nothing alive.
var paths []string

// path is a file's name for a system call.
func path(s string) uintptr {
	s += "\x00"
	paths = append(paths, s)
	return uintptr(unsafe.Pointer(unsafe.StringData(s)))
}

// call is a probe of one system call.
func call(name string, number uintptr, args ...uintptr) probe {
	return probe{name, func(int) error {
		var a [6]uintptr
		copy(a[:], args)
		if _, _, errno := unix.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}}
}

const here = ^uintptr(99) // AT_FDCWD

var probes = slices.Concat(fileProbes, networkProbes, processProbes, memoryProbes, kernelProbes)

var secretWords [64]byte

var fileProbes = []probe{
	{"open a file", func(int) error { _, err := os.ReadFile("/etc/passwd"); return err }},
	{"open this program", func(int) error { _, err := os.Open("/proc/self/exe"); return err }},
	{"create a file", func(int) error { _, err := os.Create("/tmp/thence-probe"); return err }},
	{"list a folder", func(int) error { _, err := os.ReadDir("/"); return err }},
	{"look at a file", func(int) error { _, err := os.Stat("/etc/passwd"); return err }},
	{"read a link", func(int) error { _, err := os.Readlink("/proc/self/exe"); return err }},
	{"make a folder", func(int) error { return os.Mkdir("/tmp/thence-probe", 0o700) }},
	{"remove a file", func(int) error { return os.Remove("/tmp/thence-probe") }},
	{"rename a file", func(int) error { return os.Rename("/tmp/thence-a", "/tmp/thence-b") }},
	{"link a file", func(int) error { return os.Symlink("/etc/passwd", "/tmp/thence-probe") }},
	{"change a mode", func(int) error { return os.Chmod("/proc/self/exe", 0o755) }},
	{"change the folder", func(int) error { return os.Chdir("/tmp") }},
	call("openat2", unix.SYS_OPENAT2, here, path("/etc/passwd"), path("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 24),
	call("truncate", unix.SYS_TRUNCATE, path("/dev/null"), 0),
	call("watch files", unix.SYS_INOTIFY_INIT1, 0),
	call("copy a descriptor", unix.SYS_DUP, 0),
	call("control a descriptor", unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&secretWords))),
	call("set a descriptor's flags", unix.SYS_FCNTL, 0, unix.F_SETFL, 0),
	call("write to the input", unix.SYS_WRITE, 0, uintptr(unsafe.Pointer(&secretWords)), 1),
	{"use a descriptor that was left open", openDescriptors},
}

// openDescriptors reads from and writes to every other descriptor there could be.
func openDescriptors(int) error {
	for fd := range uintptr(64) {
		if fd < 3 {
			continue
		}
		for _, number := range []uintptr{unix.SYS_PREAD64, unix.SYS_PWRITE64, unix.SYS_LSEEK, unix.SYS_FSTAT} {
			if _, _, errno := unix.RawSyscall6(number, fd, uintptr(unsafe.Pointer(&secretWords)), 1, 0, 0, 0); errno == 0 {
				return nil
			}
		}
	}
	return unix.EPERM
}

var networkProbes = []probe{
	{"connect to this machine", func(int) error { _, err := net.Dial("tcp", "127.0.0.1:4222"); return err }},
	{"connect to a public address", func(int) error { _, err := net.Dial("tcp", "1.1.1.1:443"); return err }},
	{"listen", func(int) error { _, err := net.Listen("tcp", "127.0.0.1:0"); return err }},
	{"listen on a socket in a folder", func(int) error { _, err := net.Listen("unix", "/tmp/thence-probe.sock"); return err }},
	call("make a TCP socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0),
	call("make a UDP socket", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM, 0),
	call("make a raw socket", unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0),
	call("make a netlink socket", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0),
	call("make a virtual socket", unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0),
	call("make a pair of sockets", unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_STREAM, 0, uintptr(unsafe.Pointer(&secretWords))),
	call("make a pipe", unix.SYS_PIPE2, uintptr(unsafe.Pointer(&secretWords)), 0),
}

var processProbes = []probe{
	{"run a program", func(int) error { return exec.Command("/bin/true").Run() }},
	{"become a program", func(int) error { return syscall.Exec("/bin/true", []string{"true"}, nil) }},
	call("fork", unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
	call("fork by clone3", unix.SYS_CLONE3, uintptr(unsafe.Pointer(&secretWords)), 64),
	call("clone into a user namespace", unix.SYS_CLONE, unix.CLONE_NEWUSER|uintptr(unix.SIGCHLD)),
	{"signal the parent", func(parent int) error { return unix.Kill(parent, unix.SIGTERM) }},
	{"ask whether the parent lives", func(parent int) error { return unix.Kill(parent, 0) }},
	{"signal a thread of the parent", func(parent int) error { return unix.Tgkill(parent, parent, unix.SIGURG) }},
	{"kill itself as if from outside", func(int) error { return unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGKILL) }},
	{"stop itself", func(int) error { return unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP) }},
	{"hold the parent", func(parent int) error { _, err := unix.PidfdOpen(parent, 0); return err }},
	{"trace the parent", unix.PtraceAttach},
	{"read the parent's memory", readMemory},
	{"open the parent's memory", func(parent int) error { _, err := os.Open("/proc/" + strconv.Itoa(parent) + "/mem"); return err }},
	{"read the parent's environment", func(parent int) error {
		_, err := os.ReadFile("/proc/" + strconv.Itoa(parent) + "/environ")
		return err
	}},
	{"read the environment from the kernel", func(int) error { _, err := os.ReadFile("/proc/self/environ"); return err }},
	{"find anything in the environment", func(int) error {
		if len(os.Environ()) == 0 {
			return unix.EPERM
		}
		return nil
	}},
	call("give itself more address space", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_AS, uintptr(unsafe.Pointer(&unlimited)), 0),
	call("be somebody else", unix.SYS_SETUID, 65534),
	call("take capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&secretWords)), 0),
	call("change its priority", unix.SYS_SETPRIORITY, 0, 0, ^uintptr(19)),
	call("choose its cores", unix.SYS_SCHED_SETAFFINITY, 0, 8, uintptr(unsafe.Pointer(&unlimited))),
	call("be dumpable", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
	{"open a file from a new thread", fromNewThread},
}

var unlimited = unix.Rlimit{Cur: ^uint64(0), Max: ^uint64(0)}

func readMemory(pid int) error {
	local := unix.Iovec{Base: &secretWords[0], Len: 8}
	_, err := unix.ProcessVMReadv(pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
	return err
}

func fromNewThread(int) error {
	failure := make(chan error, 3)
	for range 3 {
		go func() {
			runtime.LockOSThread() // the thread ends with the goroutine
			_, err := os.ReadFile("/etc/passwd")
			failure <- err
		}()
	}
	for range 3 {
		if err := <-failure; err == nil {
			return nil
		}
	}
	return unix.EPERM
}

var memoryProbes = []probe{
	call("map memory to execute", unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE, ^uintptr(0)),
	call("map a descriptor", unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE, 0),
	call("make memory executable", unix.SYS_MPROTECT, uintptr(unsafe.Pointer(&secretWords))&^4095, 4096, unix.PROT_READ|unix.PROT_EXEC),
	call("make a file in memory", unix.SYS_MEMFD_CREATE, path("x"), 0),
	call("share memory", unix.SYS_SHMGET, 0, 4096, 0o1600),
	call("lock memory", unix.SYS_MLOCKALL, 1),
	call("take page faults", unix.SYS_USERFAULTFD, 0),
	{"map more than its memory", func(int) error {
		_, _, errno := unix.RawSyscall6(unix.SYS_MMAP, 0, 2<<30-4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE, ^uintptr(0), 0)
		if errno == 0 {
			return nil
		}
		return errno
	}},
}

var kernelProbes = []probe{
	call("leave a namespace", unix.SYS_UNSHARE, unix.CLONE_NEWUSER),
	call("enter a namespace", unix.SYS_SETNS, 0, 0),
	call("mount", unix.SYS_MOUNT, path("none"), path("/tmp"), path("tmpfs"), 0, 0),
	call("change the root", unix.SYS_CHROOT, path("/tmp")),
	call("io_uring", unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&secretWords))),
	call("bpf", unix.SYS_BPF, 0, uintptr(unsafe.Pointer(&secretWords)), 64),
	call("perf", unix.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&secretWords)), 0, ^uintptr(0), ^uintptr(0), 0),
	call("add a key", unix.SYS_ADD_KEY, path("user"), path("x"), path("x"), 1, ^uintptr(2)),
	call("load a module", unix.SYS_FINIT_MODULE, 0, path(""), 0),
	call("reboot", unix.SYS_REBOOT, 0, 0, 0, 0),
	call("set the clock", unix.SYS_CLOCK_SETTIME, 0, uintptr(unsafe.Pointer(&unlimited))),
	call("name the host", unix.SYS_SETHOSTNAME, path("x"), 1),
	call("read the kernel's log", unix.SYS_SYSLOG, 3, uintptr(unsafe.Pointer(&secretWords)), 64),
	call("replace the filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&secretWords))),
	call("change its personality", unix.SYS_PERSONALITY, 0),
	call("a message queue", unix.SYS_MQ_OPEN, path("x"), unix.O_CREAT|unix.O_RDWR, 0o600, 0),
	call("a semaphore", unix.SYS_SEMGET, 0, 1, 0o1600),
	call("a timer", unix.SYS_TIMER_CREATE, 0, 0, uintptr(unsafe.Pointer(&secretWords))),
	call("the system's state", unix.SYS_SYSINFO, uintptr(unsafe.Pointer(&secretWords))),
}

var _ = plantProbes() // as plantFaults

func plantProbes() bool {
	runProbe = try
	return true
}

// try runs a probe inside a child; the job's sequence is the parent's process id.
func try(name string, in scripting.Input) (*scripting.Outcome, error) {
	i := slices.IndexFunc(probes, func(p probe) bool { return p.name == name })
	verdict := "succeeded"
	err := probes[i].try(int(in.Job.Sequence))
	for _, refusal := range []error{unix.EPERM, unix.ENOSYS, unix.ENOMEM} {
		if errors.Is(err, refusal) {
			verdict = "refused: " + err.Error()
		}
	}
	result, _ := json.Marshal(verdict)
	return &scripting.Outcome{State: []byte("{}"), Result: result}, nil
}

func TestProbes(t *testing.T) {
	s := open(t, nil, Options{Require: raceOff, Logger: quiet()})
	for _, p := range probes {
		out, err := s.Run(t.Context(), scripting.Input{Script: scripting.Script{Name: "probe " + p.name, Source: "1"},
			Job: scripting.Job{Sequence: uint64(os.Getpid())}})
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		var verdict string
		if err := json.Unmarshal(out.Result, &verdict); err != nil || verdict == "succeeded" {
			t.Errorf("%s: %s %v", p.name, verdict, err)
		}
		t.Logf("%-40s %s", p.name, verdict)
	}
	if killed := s.Stats().Killed; len(killed) > 0 {
		t.Errorf("killed %v", killed)
	}
	t.Logf("%d probes", len(probes))
}

// TestProbesOutside makes sure that the probes would notice: what they try succeeds here, where nothing is refused.
func TestProbesOutside(t *testing.T) {
	for _, name := range []string{"open a file", "look at a file", "read a link", "list a folder", "make a TCP socket", "make a pipe",
		"copy a descriptor", "run a program", "make a file in memory", "map memory to execute", "the system's state",
		"open a file from a new thread", "find anything in the environment", "map more than its memory"} {
		i := slices.IndexFunc(probes, func(p probe) bool { return p.name == name })
		if err := probes[i].try(os.Getppid()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
