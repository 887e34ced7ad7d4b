package sandbox

import "syscall"

// executable is this program, even when its file was replaced meanwhile.
func executable() (string, error) { return "/proc/self/exe", nil }

// attributes has a child die with the thread that started it, and keeps it out of the terminal's signals.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
