//go:build race

package sandbox

// overhead is what the process needs of address space beside a script's memory: the race detector keeps a multiple of
// what the program has.
const overhead = 1 << 30
