package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The pages explain each reason that a letter can have.
func TestReasons(t *testing.T) {
	for _, page := range []string{"../../docs/operations.md", "../../subjects.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, reason := range reasons() {
			if !slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool { return explains(line, reason) }) {
				t.Errorf("%s has no row for %s", page, reason)
			}
		}
	}
}

// explains tells whether a line is a row of a table that begins with the reason, or with several of them.
func explains(line, reason string) bool {
	cells := strings.Split(line, "|")
	return len(cells) > 2 && cells[0] == "" && slices.Contains(strings.Split(strings.TrimSpace(cells[1]), ", "), "`"+reason+"`")
}
