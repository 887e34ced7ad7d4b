//go:build !cgo

package sandbox

// threads are the threads that a child starts before its limits are on. Those of a program without cgo take some KiB of
// the heap each, so that there is room for them later.
const threads = 0
