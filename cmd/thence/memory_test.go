package main

import "testing"

// TestGCPercent: little is collected as Go does; the more is in use, the less garbage is left, down to half of that.
func TestGCPercent(t *testing.T) {
	for inUse, want := range map[uint64]int{
		0: usualGC, 10 << 20: usualGC, littleInUse: usualGC, 96 << 20: 66, 2 * littleInUse: leastGC, 4 << 30: leastGC,
	} {
		if got := gcPercent(inUse); got != want {
			t.Errorf("%d bytes in use: got %d, want %d", inUse, got, want)
		}
	}
}
