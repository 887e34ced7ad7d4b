package compile

import (
	"fmt"
	"slices"
)

// Suggest returns `: did you mean "x"?` for the name of names that is nearest to a misspelt one, or nothing when none
// is near.
func Suggest(name string, names []string) string {
	if best := Nearest(name, names); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

// Nearest returns the name of names that differs least from a misspelt one, or "" when all differ much.
func Nearest(name string, names []string) string {
	if name == "" || len(name) > 100 {
		return ""
	}
	names = slices.Sorted(slices.Values(names))
	best, least := "", max(1, len(name)/3)+1
	for _, n := range names {
		if n == "" || n[0] == ':' || len(n) > 100 {
			continue
		}
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, replace or swap with their neighbour.
func distance(a, b string) int {
	if d := len(a) - len(b); d > 5 || d < -5 {
		return len(a) + len(b)
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}
