// Package crash names the places at which a process is killed by the tests that run real processes. Here marks one. In
// a normal build it is nothing. Built with the tag crashpoints, a process kills itself (SIGKILL, as kill -9 does) when
// it comes to the place that the variable THENCE_CRASH names, for the n-th time: "commit.after:3".
//
// The places are the steps of the protocol: what a worker has done so far at each of them is told by its name.
package crash
