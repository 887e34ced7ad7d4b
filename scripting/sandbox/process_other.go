//go:build unix && !linux

package sandbox

import (
	"os"
	"syscall"
)

func executable() (string, error) { return os.Executable() }

// attributes keeps a child out of the terminal's signals. It ends when its parent's pipe does.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
