package sandbox

import (
	"errors"
	"testing"

	"github.com/thence-dev/thence/scripting"
)

// TestBereave: which deaths of children are held against a job, and when it is handed back.
func TestBereave(t *testing.T) {
	crash, outside := death{kind: KindCrash, says: "why"}, death{detail: "killed from outside"}
	type blow struct {
		why       death
		ran, only bool
	}
	for _, tt := range []struct {
		name  string
		blows []blow
		ends  error // of what kind; nil: it waits to run again
		solo  bool
	}{
		{"it crashes alone", []blow{{crash, true, true}}, &scripting.Error{Kind: KindCrash}, false},
		{"it is named beside others", []blow{{crash, true, false}}, nil, true},
		{"it crashes beside others, then alone", []blow{{crash, true, false}, {crash, true, true}}, &scripting.Error{Kind: KindCrash}, true},
		{"it waits behind one that crashes", []blow{{crash, false, false}}, nil, false},
		{"it waits so twice", []blow{{crash, false, false}, {crash, false, false}}, nil, true},
		{"its child crashes before it began", []blow{{crash, false, true}}, nil, false},
		{"its child does so whenever it is there", []blow{{crash, false, true}, {crash, false, true}, {crash, false, true}}, &scripting.Error{Kind: KindCrash}, true},
		{"killed from outside thrice", []blow{{outside, true, true}, {outside, true, true}, {outside, true, true}}, nil, true},
		{"killed from outside four times", []blow{{outside, true, true}, {outside, true, true}, {outside, true, true}, {outside, true, true}}, ErrInterrupted, true},
		{"its child stands still", []blow{{death{kind: stalled}, true, true}}, nil, false},
	} {
		s := &Sandbox{}
		job, err := s.newTask(fault("exit"))
		if err != nil {
			t.Fatal(err)
		}
		job.conduct = s.conductOf(job)
		for _, b := range tt.blows {
			if job.line != nil {
				s.holder(job).remove(job)
			}
			s.bereave(job, b.why, b.ran, b.only)
		}
		if kindOf(job.err) != kindOf(tt.ends) || errors.Is(tt.ends, ErrInterrupted) != errors.Is(job.err, ErrInterrupted) || (job.line == nil) != (tt.ends != nil) || job.solo != tt.solo {
			t.Errorf("%s: ends with %v, waits %v, alone from now on %v", tt.name, job.err, job.line != nil, job.solo)
		}
		if struck := len(s.docket) > 0; struck != (kindOf(tt.ends) != "") {
			t.Errorf("%s: struck %v", tt.name, struck)
		}
	}
}
