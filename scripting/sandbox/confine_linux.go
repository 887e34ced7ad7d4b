package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// confine puts the layers around this process, for good, and says which of them are on. After it the process can do
// little more than compute, read its standard input and write its standard output.
func confine(memory int64) []wire.Layer {
	wake, err := closeOtherFiles()
	return []wire.Layer{
		layer("files", "three pipes and the runtime's poller", err),
		limitAddressSpace(memory),
		layer("no_new_privs", "", noNewPrivileges()),
		restrictFiles(),
		layer("rlimits", "no core, no file, no descriptor, no locked memory", limitOthers()),
		layer("seccomp", "an allow-list, for all threads", filterSyscalls(wake)),
	}
}

func layer(name, note string, err error) wire.Layer {
	if err != nil {
		return wire.Layer{Name: name, Note: err.Error()}
	}
	return wire.Layer{Name: name, On: true, Note: note}
}

// closeOtherFiles closes what a careless ancestor left open across exec. It returns the descriptor by which the Go
// runtime wakes its poller; that and the poller's own, which timers need, stay.
func closeOtherFiles() (wake int, err error) {
	<-time.After(0) // the first timer starts the poller
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < 3 {
			continue
		}
		switch target, _ := os.Readlink("/proc/self/fd/" + entry.Name()); target {
		case "anon_inode:[eventpoll]":
		case "anon_inode:[eventfd]":
			wake = fd
		default:
			_ = unix.Close(fd) // the listing's own is closed already
		}
	}
	return wake, nil
}

// limitAddressSpace allows memory bytes, and room for libraries, on top of what the process has mapped by now, most of
// which the Go runtime has only set aside. It sets address space aside in units of 64 MiB, of which it has used a part of one by now, so the heap
// may grow to memory at least, and to 64 MiB more at most. RLIMIT_DATA would not be strict: the heap turns what is set
// aside writable, which is not counted again.
func limitAddressSpace(memory int64) wire.Layer {
	const name = "memory"
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return layer(name, "", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[0], 10, 64)
	if err != nil {
		return layer(name, "", err)
	}
	// Should the machine or the container run out of memory, a child is the first to go.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	room := memory + int64(shelfRoom(memory)) + overhead
	limit := uint64(pages*int64(os.Getpagesize()) + room)
	return layer(name, fmt.Sprintf("%d MiB of address space beyond the start", room>>20),
		unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: limit, Max: limit}))
}

func limitOthers() error {
	var errs []error
	for resource, limit := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_NOFILE: 3,
		unix.RLIMIT_MEMLOCK: 0, unix.RLIMIT_MSGQUEUE: 0} {
		errs = append(errs, unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}))
	}
	return errors.Join(errs...)
}

// noNewPrivileges is for this thread; the system call filter takes it to all others. The process is not dumpable
// either: no other of the same user can attach to it, or look into it under /proc.
func noNewPrivileges() error {
	return errors.Join(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// restrictFiles forbids all access to files, TCP ports, abstract sockets and signals to others that the kernel's
// Landlock knows. In a program with cgo it can only be had for one thread, which is then the one that runs scripts.
func restrictFiles() wire.Layer {
	const name = "landlock"
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return layer(name, "", fmt.Errorf("the kernel has none: %w", errno))
	}
	rules := landlockRules(int(version))
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), landlockSize(int(version)), 0)
	if errno != 0 {
		return layer(name, "", fmt.Errorf("create a ruleset: %w", errno))
	}
	defer func() { _ = unix.Close(int(fd)) }()
	note := fmt.Sprintf("version %d", version)
	_, _, errno = syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	if errno == unix.ENOTSUP {
		runtime.LockOSThread() // for good: the goroutine that is here runs the scripts
		note += ", for the thread that runs scripts"
		_, _, errno = unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	}
	if errno != 0 {
		return layer(name, "", fmt.Errorf("restrict: %w", errno))
	}
	return layer(name, note, nil)
}

// landlockRules handles every right that a version knows, and grants none.
func landlockRules(version int) unix.LandlockRulesetAttr {
	const first = 1<<13 - 1 // of files, in version 1
	rules := unix.LandlockRulesetAttr{Handled_access_fs: first}
	for _, r := range []struct {
		since int
		fs    uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if version >= r.since {
			rules.Handled_access_fs |= r.fs
		}
	}
	if version >= 4 {
		rules.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if version >= 6 {
		rules.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	return rules
}

// landlockSize is the size of the rules as a version knows them.
func landlockSize(version int) uintptr {
	switch {
	case version >= 6:
		return 24
	case version >= 4:
		return 16
	}
	return 8
}
