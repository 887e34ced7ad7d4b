package calls

import (
	"context"
	"encoding/json"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// open asks the context's leader whether the call still waits for its answer (rule 11). An answer that is older than
// the commit which opened the call is no answer: it is asked again. That it waits no more is said by a commit that stands: the
// call's message is acked on its word, and nobody would have the call if the server came back without it.
func (p *Performer) open(ctx context.Context, a job.Address, call *job.Call) (bool, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		entry, err := p.config.Streams.ContextFromLeader(ctx, a.Context)
		if err == nil && entry.Revision >= call.Revision {
			if entry.Data == nil {
				return false, nil // the context was deleted by an operator
			}
			open, err := waits(entry.Data, call.ID)
			if open || err != nil {
				return open, err
			}
			if p.config.Stands(ctx, a.Context, entry) == nil {
				return false, nil
			}
		}
		if err := pause(ctx, wait); err != nil {
			return false, err
		}
	}
}

// waits tells whether a commit has the call among its open ones. Of the commit it reads no more than that: a thousand
// calls that begin together read the same one, state and outbox and all, a thousand times.
func waits(commit []byte, call string) (bool, error) {
	var c struct {
		Version int                 `json:"v"`
		Calls   map[string]struct{} `json:"calls"`
	}
	if err := json.Unmarshal(commit, &c); err != nil || c.Version != job.Version {
		_, err := job.DecodeCommit(commit) // its error says what is wrong
		return false, err
	}
	_, open := c.Calls[call]
	return open, nil
}
