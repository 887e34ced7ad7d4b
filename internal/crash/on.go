//go:build crashpoints

package crash

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Enabled tells whether this program can be killed at its points.
const Enabled = true

var (
	at, after = parse(os.Getenv(Variable))
	passed    atomic.Int64
)

func parse(value string) (Point, int64) {
	if value == "" {
		return "", 0
	}
	name, count, _ := strings.Cut(value, ":")
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 || !slices.Contains(Points, Point(name)) {
		fmt.Fprintf(os.Stderr, "%s=%q: want <point>:<n>, such as %s:1\n", Variable, value, Points[0])
		os.Exit(2)
	}
	return Point(name), n
}

// Here kills the process when this is the place, and the time.
func Here(p Point) {
	if p != at || passed.Add(1) != after {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way: do nothing more
}
