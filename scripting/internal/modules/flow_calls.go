package modules

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// openCalls are the calls that the context waits for, read from the job when a script first asks, and what became of
// them in this run.
type openCalls struct {
	read   bool
	calls  []openCall
	closed []string // ids
}

// openCall is a call as flow.calls shows it.
type openCall struct {
	ID        string          `json:"id"`
	Operation string          `json:"operation"`
	Tag       json.RawMessage `json:"tag"`
	Due       time.Time       `json:"due"` // of a timer
}

// openCalls returns the calls that earlier jobs of the context asked for.
func (r *Run) openCalls() ([]openCall, error) {
	if !r.open.read && len(r.job.Calls) > 0 {
		if err := json.Unmarshal(r.job.Calls, &r.open.calls); err != nil {
			return nil, fmt.Errorf("the context's open calls can't be read: %w", err)
		}
	}
	r.open.read = true
	return r.open.calls, nil
}

// flowCalls lists the open calls of the context, those that this job asked for last.
func flowCalls(r *Run, _ []tengo.Object) (tengo.Object, error) {
	open, err := r.openCalls()
	if err != nil {
		return nil, err
	}
	list := &value.Array{}
	for _, c := range open {
		if slices.Contains(r.open.closed, c.ID) {
			continue
		}
		if err := appendCall(list, c); err != nil {
			return nil, err
		}
	}
	for _, e := range r.effects {
		if c := e.Call; c != nil && !c.Cancelled {
			if err := appendCall(list, openCall{c.ID, c.Operation, c.Tag, dueOf(c.URL)}); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

func appendCall(list *value.Array, c openCall) error {
	m := value.NewMap(4)
	m.Set("id", str(c.ID))
	m.Set("operation", str(c.Operation))
	m.Set("tag", tengo.UndefinedValue)
	if len(c.Tag) > 0 {
		tag, err := value.Decode(c.Tag)
		if err != nil {
			return err
		}
		m.Set("tag", tag)
	}
	if !c.Due.IsZero() {
		m.Set("due", timeOf(c.Due))
	}
	list.Items = append(list.Items, m)
	return nil
}

// flowCancel closes an open call of the context by its id, and tells whether it was open. One that this job asked for
// keeps its place among the effects, so that the ids of those behind it stay what the script was told.
func flowCancel(r *Run, args []tengo.Object) (tengo.Object, error) {
	id, ok := args[0].(*tengo.String)
	if !ok {
		return nil, wrong(0, "the id of a call or a timer", args[0])
	}
	for _, e := range r.effects {
		if c := e.Call; c != nil && c.ID == id.Value {
			was := !c.Cancelled
			c.Cancelled = true
			return boolean(was), nil
		}
	}
	open, err := r.openCalls()
	if err != nil {
		return nil, err
	}
	if slices.Contains(r.open.closed, id.Value) || !slices.ContainsFunc(open, func(c openCall) bool { return c.ID == id.Value }) {
		return tengo.FalseValue, nil
	}
	r.open.closed = append(r.open.closed, id.Value)
	return tengo.TrueValue, nil
}
