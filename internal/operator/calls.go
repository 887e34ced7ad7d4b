package operator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// OpenCall is a call that a context waits for, with what its message tells, where there is one: a call that is answered
// already, or about to be queued, has none.
type OpenCall struct {
	Context string `json:"context"`
	ID      string `json:"id"`
	job.OpenCall
	Where string    `json:"where"`           // see the Where constants
	Since time.Time `json:"since,omitzero"`  // when it was queued first
	Tries int       `json:"tries,omitempty"` // that have ended
	Last  string    `json:"last,omitempty"`  // how the last of them ended
	Next  time.Time `json:"next,omitzero"`   // when the next begins, where it waits on a timer
}

// Where an open call is.
const (
	WhereQueued  = "queued"  // it waits for its service, or is being made
	WhereTimer   = "timer"   // its next try waits
	WhereUnknown = "unknown" // its answer is on its way, or it is about to be queued
)

// Calls lists the calls that one context waits for, or with an empty name all of the pool's, by context and id. With an error of
// contexts that can't be read it returns the calls of the others.
func (o *Operator) Calls(ctx context.Context, name string) ([]OpenCall, error) {
	var open []OpenCall
	var failed []error
	add := func(name string, e stream.Entry) bool {
		c, err := decodeOpen(e)
		if err != nil {
			failed = append(failed, fmt.Errorf("context %s.%s: %w", o.pool.Name, name, err))
			return true
		}
		for id, call := range c {
			open = append(open, OpenCall{Context: name, ID: id, OpenCall: call, Where: WhereUnknown})
		}
		return true
	}
	var err error
	if name == "" {
		err = o.pool.Contexts(ctx, add)
	} else {
		var e stream.Entry
		if e, err = o.pool.ContextFromLeader(ctx, name); err == nil {
			add(name, e)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(open) == 0 {
		return nil, errors.Join(failed...)
	}
	slices.SortFunc(open, func(a, b OpenCall) int {
		return cmp.Or(cmp.Compare(a.Context, b.Context), job.CompareEffects(a.ID, b.ID))
	})
	if err := o.locate(ctx, name, open); err != nil {
		return nil, err
	}
	return open, errors.Join(failed...)
}

func decodeOpen(e stream.Entry) (map[string]job.OpenCall, error) {
	if e.Data == nil {
		return nil, nil
	}
	c, err := job.DecodeCommit(e.Data)
	return c.Calls, err
}

// locate finds the messages of open calls.
func (o *Operator) locate(ctx context.Context, name string, open []OpenCall) error {
	at := make(map[string]*OpenCall, len(open))
	for i := range open {
		at[open[i].Context+"."+open[i].ID] = &open[i]
	}
	return o.pool.QueuedCalls(ctx, name, func(m job.Message) bool {
		var c job.Call
		part := strings.Split(m.Subject, ".")
		if len(part) != 4 || json.Unmarshal(m.Data, &c) != nil {
			return true
		}
		if call := at[part[1]+"."+c.ID]; call != nil {
			call.found(m, c)
		}
		return true
	})
}

// found takes what a call's message tells.
func (c *OpenCall) found(m job.Message, call job.Call) {
	c.Where, c.Since, c.Tries, c.Last = WhereQueued, m.Time, call.Attempt, call.Last
	if !call.First.IsZero() {
		c.Since = call.First
	}
	if at, timer := strings.CutPrefix(m.Get("Nats-Schedule"), "@at "); timer {
		c.Where = WhereTimer
		c.Next, _ = time.Parse(time.RFC3339Nano, at) // a worker wrote it; where it can't be read the time is not shown
	}
}

// Plan is what Cancel would close now.
func (o *Operator) Plan(ctx context.Context, name string, ids []string) ([]Cancelled, error) {
	entry, err := o.pool.ContextFromLeader(ctx, name)
	if err != nil {
		return nil, err
	}
	open, err := decodeOpen(entry)
	if err != nil {
		return nil, fmt.Errorf("context %s.%s: %w", o.pool.Name, name, err)
	}
	which, err := openCalls(open, ids)
	plan := make([]Cancelled, 0, len(which))
	for _, id := range which {
		plan = append(plan, Cancelled{ID: id, OpenCall: open[id]})
	}
	return plan, err
}

// openCalls are the ids of the calls that are meant, in order, each of which must be open.
func openCalls(open map[string]job.OpenCall, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return slices.SortedFunc(maps.Keys(open), job.CompareEffects), nil
	}
	var unknown []string
	for _, id := range ids {
		if _, there := open[id]; !there {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("not an open call of the context: %s. Nothing was cancelled; `thence context get` shows those that are open",
			strings.Join(unknown, ", "))
	}
	ids = slices.Clone(ids)
	slices.SortFunc(ids, job.CompareEffects)
	return slices.Compact(ids), nil
}
