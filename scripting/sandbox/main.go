package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
)

// childName is how a child is called in lists of processes; no program is started under it by hand.
const childName = "thence-sandbox"

// mainCalled tells whether this program can be its own child.
var mainCalled atomic.Bool

// Main makes a program fit to run scripts in child processes, which are the same program, started again. Call it first
// thing in main, before flags are read or anything is opened, and in TestMain of a test that runs scripts; it costs
// nothing. In a process that was started as a child it runs scripts until its parent is gone, and does not return.
func Main() {
	mainCalled.Store(true)
	if len(os.Args) != 2 || os.Args[0] != childName {
		return
	}
	memory, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err == nil {
		err = runChild(memory)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, childName+": "+err.Error())
		os.Exit(exitBroken)
	}
	os.Exit(0)
}

// exitBroken is the exit status of a child that cannot go on; the Go runtime's own is 2.
const exitBroken = 3
