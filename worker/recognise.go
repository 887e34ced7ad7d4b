package worker

import (
	"maps"

	"github.com/thence-dev/thence/internal/job"
)

// recognise finds jobs that took effect before, and answers of calls that are closed. What it returns ends the job.
func (t *trial) recognise() string {
	switch {
	case t.job.Call != "":
		call, open := t.old.Calls[t.job.Call]
		if !open {
			return job.OutcomeLate
		}
		t.call = &call
		t.next.Calls = maps.Clone(t.old.Calls)
		delete(t.next.Calls, t.job.Call)
	case t.job.Origin.Valid():
		return t.mark()
	case t.job.CallerID != "":
		return t.remember()
	}
	return ""
}

// mark records the effect that the job is, unless it or a later one of its source was taken before (rule 6).
func (t *trial) mark() string {
	source, o := t.job.Origin.Address.String(), t.job.Origin
	last, known := t.old.Marks[source]
	if known && (o.Sequence < last[0] || o.Sequence == last[0] && uint64(o.Index) <= last[1]) {
		return job.OutcomeDuplicate
	}
	marks := maps.Clone(t.old.Marks)
	if marks == nil {
		marks = map[string]job.Mark{}
	}
	marks[source] = job.Mark{o.Sequence, uint64(o.Index), t.message.Sequence}
	if len(marks) > job.MaxMarks {
		delete(marks, longestUnused(marks))
	}
	t.next.Marks = marks
	return ""
}

func longestUnused(marks map[string]job.Mark) (oldest string) {
	for source, m := range marks {
		if oldest == "" || m[2] < marks[oldest][2] {
			oldest = source
		}
	}
	return oldest
}

// digestLen is the length of a remembered id.
const digestLen = 16

// remember records the caller's id, unless it is among the recent ones.
func (t *trial) remember() string {
	id, recent := job.Digest(t.job.CallerID), t.old.Recent
	for i := 0; i+digestLen <= len(recent); i += digestLen {
		if recent[i:i+digestLen] == id {
			return job.OutcomeDuplicate
		}
	}
	if len(recent) >= job.MaxRecent*digestLen {
		recent = recent[len(recent)-(job.MaxRecent-1)*digestLen:]
	}
	t.next.Recent = recent + id
	return ""
}

// withoutOldest keeps at most n marks, those used last. What it forgets could be taken twice, if it came again after
// all this time.
func withoutOldest(marks map[string]job.Mark, n int) map[string]job.Mark {
	marks = maps.Clone(marks)
	for len(marks) > n {
		delete(marks, longestUnused(marks))
	}
	return marks
}
