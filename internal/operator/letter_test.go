package operator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

func TestFilters(t *testing.T) {
	b := newBed(t)
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for i, l := range []job.DeadLetter{
		{Error: job.Error{Reason: "runtime"}, Script: "pay", Job: "a", Time: noon},
		{Error: job.Error{Reason: "compile"}, Script: "pay", Job: "b", Time: noon.Add(time.Hour)},
		{Error: job.Error{Reason: "runtime"}, Script: "ship", Job: "c", Time: noon.Add(2 * time.Hour), Held: true},
	} {
		b.bury(fmt.Sprintf("p.cus_%d.%d", i, i+1), l)
	}
	must(t, b.pool.Publish(b.ctx(), job.Message{Subject: "p.cus_0.dead.9", Data: []byte("{")}))
	for _, test := range []struct {
		name   string
		filter Filter
		want   []string
	}{
		{"all", Filter{}, []string{"p.cus_0.1", "p.cus_1.2", "p.cus_2.3", "p.cus_0.9"}},
		{"context", Filter{Context: "cus_0"}, []string{"p.cus_0.1", "p.cus_0.9"}},
		{"script", Filter{Script: "pay"}, []string{"p.cus_0.1", "p.cus_1.2"}},
		{"reason", Filter{Reason: "runtime"}, []string{"p.cus_0.1", "p.cus_2.3"}},
		{"job", Filter{Job: "b"}, []string{"p.cus_1.2"}},
		{"since", Filter{Since: noon.Add(time.Hour)}, []string{"p.cus_1.2", "p.cus_2.3"}},
		{"until", Filter{Script: "pay", Until: noon.Add(time.Hour)}, []string{"p.cus_0.1"}},
		{"all of them", Filter{Script: "pay", Reason: "runtime", Job: "a", Since: noon, Until: noon.Add(1)}, []string{"p.cus_0.1"}},
		{"none", Filter{Script: "nope"}, nil},
		{"no such context", Filter{Context: "nope"}, nil},
	} {
		var got []string
		for l, err := range b.op.Letters(b.ctx(), test.filter) {
			must(t, err)
			got = append(got, l.ID)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
	equal(t, "a context alone is no filter", Filter{Context: "c", Through: 5}.All(), true)
	equal(t, "a script is", Filter{Script: "x"}.All(), false)
}

// What was counted is what is meant later, though letters come in between.
func TestCount(t *testing.T) {
	b := newBed(t)
	for i := range 3 {
		b.bury(fmt.Sprintf("p.c.%d", i+1), job.DeadLetter{Error: job.Error{Reason: "runtime"}, Script: "pay", Held: i == 0})
	}
	c, err := b.op.Count(b.ctx(), Filter{})
	must(t, err)
	if c.Total != 3 || c.Held != 1 || c.Kinds[Kind{"runtime", "pay"}] != 3 {
		t.Errorf("got %+v", c)
	}
	b.bury("p.c.4", job.DeadLetter{Error: job.Error{Reason: "runtime"}})
	n := 0
	for _, err := range b.op.Letters(b.ctx(), Filter{Through: c.Through}) {
		must(t, err)
		n++
	}
	equal(t, "letters through the last that was counted", n, 3)
}

// Letters may be removed while they are gone through, by others too.
func TestLettersRemovedMeanwhile(t *testing.T) {
	b := newBed(t)
	for i := range 5 {
		b.bury(fmt.Sprintf("p.c.%d", i+1), job.DeadLetter{Error: job.Error{Reason: "runtime"}, Message: job.Original{Data: job.Text("x := 1")}})
	}
	n := 0
	for l, err := range b.op.Letters(b.ctx(), Filter{}) {
		must(t, err)
		n++
		if _, err := b.op.Drop(b.ctx(), l); err != nil {
			t.Error(err)
		}
	}
	equal(t, "letters", n, 5)
	left, err := b.op.Count(b.ctx(), Filter{})
	must(t, err)
	equal(t, "letters that are left", left.Total, 0)
}

func TestParseID(t *testing.T) {
	at, name, err := ParseID("p.cus_1.12-0")
	if err != nil || at != (job.Address{Pool: "p", Context: "cus_1"}) || name != "12-0" {
		t.Errorf("got %v, %s, %v", at, name, err)
	}
	for _, bad := range []string{"", "p.c", "p.c.1.2", "p.c.", "p.*.1", "p.c.>", "a b.c.1"} {
		if _, _, err := ParseID(bad); err == nil {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}
