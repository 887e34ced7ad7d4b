//go:build !unix

package calls

import "net"

// untouched takes a connection to be so: whether it is shows when it is used.
func untouched(*net.TCPConn) bool { return true }
