package modules

import (
	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// newJob makes the module job: the facts of the job that runs, read when asked for, and result.
func newJob(r *Run) tengo.Object {
	m := newModule(r, "job", members{"result": fn{1, 1, jobResult}})
	text := func(get func() string) func() (tengo.Object, error) {
		return func() (tengo.Object, error) { return str(get()), nil }
	}
	m.lazy = map[string]func() (tengo.Object, error){
		"id":        text(func() string { return r.job.ID }),
		"caller":    text(func() string { return r.job.Caller }),
		"worker":    text(func() string { return r.job.Worker }),
		"context":   text(func() string { return r.job.Context }),
		"script":    text(func() string { return r.job.Script }),
		"operation": text(func() string { return r.job.Operation }),
		"parent":    text(func() string { return r.job.Parent }),
		"time":      func() (tengo.Object, error) { return &tengo.Time{Value: r.job.Time.UTC()}, nil },
		"data":      r.Data,
		"response":  func() (tengo.Object, error) { return r.fact("response", r.job.Response) },
		"failure":   func() (tengo.Object, error) { return r.fact("failure", r.job.Failure) },
		"tag":       func() (tengo.Object, error) { return r.fact("tag", r.job.Tag) },
	}
	return m
}

// jobResult sets what the one who waits for the job gets; the last call counts.
func jobResult(r *Run, args []tengo.Object) (tengo.Object, error) {
	b, err := value.Encode("result", args[0])
	if err != nil {
		return nil, err
	}
	if len(b) > r.limits.Result {
		return nil, &LimitError{"result", len(b), r.limits.Result}
	}
	r.result = b
	return tengo.UndefinedValue, nil
}
