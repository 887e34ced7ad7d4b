package sandbox

import (
	"maps"
	"time"

	"github.com/thence-dev/thence/scripting"
)

// Stats are a sandbox's counts since it was made, and what it holds now.
type Stats struct {
	Processes int // that are ready
	Waiting   int // jobs that wait for their turn
	Started   uint64
	Jobs      uint64                         // that were run, failed ones included
	Refused   uint64                         // that were not run, as their script or their context had killed before
	Busy      uint64                         // that found the queue full
	Repeated  uint64                         // runs done again since a child died, or was held up, by the job before
	Lost      uint64                         // processes that ended, or were killed as they stood still, by no job's fault
	Killed    map[scripting.ErrorKind]uint64 // processes, by the error of the job that they ended of
	Libraries uint64                         // that processes were told of after their start
	Wait      time.Duration                  // of all jobs together, for their turn
	WaitMost  time.Duration                  // of one job
}

// Stats returns the counts.
func (s *Sandbox) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Processes, stats.Waiting = len(s.processes), s.waiting()
	stats.Killed = maps.Clone(s.stats.Killed)
	return stats
}
