package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what a run came to; report.json has it as it is, report.md for people.
type report struct {
	Command string    `json:"command"`
	Seed    uint64    `json:"seed"`
	Scale   scale     `json:"scale"`
	Began   time.Time `json:"began"`
	Took    float64   `json:"took_s"`
	Machine string    `json:"machine"`
	Results []result  `json:"results"`
}

// result is what a trial came to.
type result struct {
	Fault      string   `json:"fault"`
	Trial      string   `json:"trial"`
	Plan       string   `json:"plan,omitempty"`
	Took       float64  `json:"took_s"`
	Skipped    string   `json:"skipped,omitempty"` // why it was not run
	Missed     string   `json:"missed,omitempty"`  // why its fault did not come
	Failed     string   `json:"failed,omitempty"`  // why it could not be run to its end
	Violations []string `json:"violations,omitempty"`
	Notes      []string `json:"notes,omitempty"`
	Figures    tally    `json:"figures"`
}

func (r result) ok() bool { return r.Failed == "" && len(r.Violations) == 0 }

func (r report) ok() bool {
	return !slices.ContainsFunc(r.Results, func(one result) bool { return !one.ok() })
}

func machine() string {
	memory := ""
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		if _, err := fmt.Sscanf(string(text), "MemTotal: %d kB", &kb); err == nil {
			memory = fmt.Sprintf(", %d GB", (kb+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d cores%s, %s/%s, %s", runtime.NumCPU(), memory, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

func (r report) write(dir string) error {
	if err := writeJSON(filepath.Join(dir, "report.json"), r); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.md"), r.markdown(), 0o600)
}

// markdown is the report as a page: a table of faults, then everything that was not as it should be.
func (r report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# The gauntlet\n\n`%s`: seed %d, scale %s, %s, %s, on %s.\n\n", r.Command, r.Seed, r.Scale,
		r.Began.UTC().Format("2006-01-02 15:04 MST"), time.Duration(r.Took*float64(time.Second)).Round(time.Second), r.Machine)
	b.WriteString("| fault | trials | not reached | skipped | jobs accepted | commits | dead letters | calls | requests | violations |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	var total sum
	for _, s := range r.sums() {
		s.line(&b)
		total.trials, total.missed, total.skipped, total.violations = total.trials+s.trials, total.missed+s.missed, total.skipped+s.skipped, total.violations+s.violations
		total.figures = total.figures.plus(s.figures)
	}
	total.fault = "**all**"
	total.line(&b)
	r.details(&b)
	return b.Bytes()
}

// sum is what the trials of one fault came to.
type sum struct {
	fault                               string
	trials, missed, skipped, violations int
	figures                             tally
}

func (t tally) plus(other tally) tally {
	all := maps.Clone(t)
	if all == nil {
		all = tally{}
	}
	all.add(other)
	return all
}

func (r report) sums() []sum {
	var all []sum
	for _, one := range r.Results {
		if len(all) == 0 || all[len(all)-1].fault != one.Fault {
			all = append(all, sum{fault: one.Fault})
		}
		s := &all[len(all)-1]
		s.trials++
		if one.Skipped != "" {
			s.skipped++
		}
		if one.Missed != "" {
			s.missed++
		}
		s.violations += len(one.Violations)
		if one.Failed != "" {
			s.violations++
		}
		s.figures = s.figures.plus(one.Figures)
	}
	return all
}

func (s sum) line(b *bytes.Buffer) {
	f := s.figures
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d | %d |\n", s.fault, s.trials, s.missed, s.skipped,
		f["jobs accepted"], f["commits"], f["dead letters"], f["calls"], f["requests"], s.violations)
}

// maxLines is how much of one trial the page shows in a section.
const maxLines = 8

// details lists the other figures of each fault, and what was not as it should be.
func (r report) details(b *bytes.Buffer) {
	inTable := []string{"jobs accepted", "commits", "dead letters", "calls", "requests"}
	b.WriteString("\n## Counts\n\n")
	for _, s := range r.sums() {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(s.figures)) {
			if !slices.Contains(inTable, name) && s.figures[name] != 0 {
				parts = append(parts, fmt.Sprintf("%s: %d", name, s.figures[name]))
			}
		}
		fmt.Fprintf(b, "- %s: %s\n", s.fault, strings.Join(parts, "; "))
	}
	for _, section := range []struct {
		title string
		lines func(result) []string
	}{
		{"Notes", func(one result) []string { return one.Notes }},
		{"Violations", func(one result) []string { return one.Violations }},
		{"Could not be run to the end", func(one result) []string { return some(one.Failed) }},
		{"Skipped", func(one result) []string { return some(one.Skipped) }},
		{"Not reached", func(one result) []string { return some(one.Missed) }},
	} {
		var text strings.Builder
		for _, one := range r.Results {
			for n, line := range section.lines(one) {
				if n == maxLines {
					line = fmt.Sprintf("and %d more, see report.json", len(section.lines(one))-n)
				} else if n > maxLines {
					break
				}
				fmt.Fprintf(&text, "- %s (%s): %s\n", one.Trial, one.Plan, line)
			}
		}
		if text.Len() > 0 {
			fmt.Fprintf(b, "\n## %s\n\n%s", section.title, text.String())
		}
	}
}

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
