package main

import "syscall"

// dieWithParent has the kernel kill a child when this process dies, however that happens.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
