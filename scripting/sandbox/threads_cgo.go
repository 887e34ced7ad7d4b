//go:build cgo

package sandbox

// threads are the threads that a child starts before its limits are on. In a program with cgo each takes 8 MiB of
// address space for its stack, and 64 MiB for the C library's allocator.
const threads = 6
