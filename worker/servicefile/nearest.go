package servicefile

import (
	"fmt"
	"strings"
)

// unknown says that there is no such field, and which may have been meant.
func unknown(name string, known []string) string {
	best, least := "", 3 // more changes make another word
	for _, k := range known {
		if d := distance(name, k); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("there is no field %q: did you mean %s?", name, best)
	}
	return fmt.Sprintf("there is no field %q; there are: %s", name, strings.Join(known, ", "))
}

// distance is how many letters have to be changed, added or left out to make one word of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}
