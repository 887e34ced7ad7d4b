//go:build !race

package sandbox

// overhead is what the Go runtime needs of address space for each 64 MiB of heap that it sets aside, which it does at
// once, and for a thread or two.
const overhead = 16 << 20
