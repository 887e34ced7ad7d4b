package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
)

// childName is how a child is called in lists of processes; no program is started under it by hand.
const childName = "thence-sandbox"

// exitBroken is the exit status of a child that cannot go on; the Go runtime's own is 2.
const exitBroken = 3

// mainCalled tells whether this program can be its own child.
var mainCalled atomic.Bool

// Main makes a program fit to run scripts in child processes, which are the same program, started again. Call it first
// thing in main, and in TestMain of a test that runs scripts; it costs nothing. It is the program's consent: a process
// that was started as a child runs scripts until its parent is gone, and does not come to its main.
func Main() { mainCalled.Store(true) }

// init is where a child's life begins and ends. Go initialises packages by their import paths, each as soon as what it
// imports is, and that is most of what a large program does until its main: none of what comes after this package is
// needed in a child, so it does not wait for it. In any other process this is one comparison.
func init() {
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	go beChild(os.Args[1]) // not here: the goroutine of init is bound to the process's first thread
	select {}
}

// beChild serves the parent, and ends the process.
func beChild(memory string) {
	n, err := strconv.ParseInt(memory, 10, 64)
	if err != nil {
		err = errNoParent
	} else {
		err = runChild(n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, childName+": "+err.Error())
		os.Exit(exitBroken)
	}
	os.Exit(0)
}
