package main

import (
	"fmt"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// nearPercent of a limit is near it.
const nearPercent = 80

// measure is how much of a limit was taken.
type measure struct {
	Limit string `json:"limit"`
	Used  int64  `json:"used"`
	Most  int64  `json:"most"`
	Unit  string `json:"unit,omitempty"` // "ns" or "bytes"; empty for counts
}

// ofSource are the bounds of a source.
func ofSource(bounds []scripting.Bound) []measure {
	var all []measure
	for _, b := range bounds {
		all = append(all, measure{Limit: b.Name, Used: int64(b.Used), Most: int64(b.Most)})
	}
	return all
}

// ofRun are the limits of a run, by the names that --limit knows.
func ofRun(u *scripting.Usage, l scripting.Limits, memory int64) []measure {
	bytes := func(name string, used, most int) measure { return measure{name, int64(used), int64(most), "bytes"} }
	return []measure{
		{"time", int64(u.Time), int64(l.Time), "ns"},
		{"memory", u.Memory, memory, "bytes"},
		{"allocs", u.Allocs, l.Allocs, ""},
		bytes("output", u.Output, l.Output),
		{"effects", int64(u.Effects), int64(l.Effects), ""},
		bytes("outbox", u.Outbox, l.Outbox),
		bytes("state", u.State, l.State),
		bytes("result", u.Result, l.Result),
	}
}

// near are those of which most is taken.
func near(all []measure) []measure {
	var warn []measure
	for _, m := range all {
		if m.percent() >= nearPercent {
			warn = append(warn, m)
		}
	}
	return warn
}

func (m measure) percent() int64 {
	if m.Most <= 0 {
		return 0
	}
	return int64(float64(m.Used) / float64(m.Most) * 100)
}

// String is "58000 of 65536 bytes (88 %)".
func (m measure) String() string {
	switch m.Unit {
	case "ns":
		return fmt.Sprintf("%s of %s of CPU time (%d %%)", time.Duration(m.Used).Round(time.Microsecond), time.Duration(m.Most), m.percent())
	case "":
		return fmt.Sprintf("%d of %d (%d %%)", m.Used, m.Most, m.percent())
	}
	return fmt.Sprintf("%d of %d %s (%d %%)", m.Used, m.Most, m.Unit, m.percent())
}

func (a *app) printChecked(all []checked) error {
	if a.json {
		return a.printJSON(all)
	}
	for _, one := range all {
		if one.OK {
			a.printf("ok    %s\n", plain(one.File))
		} else {
			a.printf("error %s\n%s\n", plain(one.File), plainText(one.Error.Error()))
		}
		for _, more := range one.More {
			a.printf("%s\n", plainText(more.Error()))
		}
		for _, m := range one.Usage {
			a.printf("      %-8s %s\n", m.Limit, m)
		}
		for _, m := range one.Warnings {
			a.printf("warn  %s: %s: %s\n", plain(one.File), m.Limit, m)
		}
	}
	return nil
}
