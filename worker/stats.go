package worker

import (
	"sync/atomic"

	"github.com/thence-dev/thence/internal/job"
)

// Stats counts what a worker has done since it was made.
type Stats struct {
	Jobs       uint64 // commits: done, dead, duplicate and late together
	Dead       uint64 // of them dead letters
	Duplicates uint64 // of them recognised as taken before
	Late       uint64 // of them answers of closed calls
	LostRaces  uint64 // runs thrown away because another worker committed first
}

type stats struct {
	jobs, dead, duplicates, late, lostRaces atomic.Uint64
}

func (s *stats) count(outcome string) {
	s.jobs.Add(1)
	switch outcome {
	case job.OutcomeDead:
		s.dead.Add(1)
	case job.OutcomeDuplicate:
		s.duplicates.Add(1)
	case job.OutcomeLate:
		s.late.Add(1)
	}
}

func (s *stats) read() Stats {
	return Stats{s.jobs.Load(), s.dead.Load(), s.duplicates.Load(), s.late.Load(), s.lostRaces.Load()}
}
