package sandbox

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/thence-dev/thence/scripting"
)

func waiting(q *fairQueue, names ...string) map[string]*task {
	tasks := map[string]*task{}
	for _, name := range names {
		t := &task{in: scripting.Input{Job: scripting.Job{ID: name, Context: name[:1]}}}
		tasks[name] = t
		q.push(t)
	}
	return tasks
}

func drain(q *fairQueue) string {
	var order []string
	for t := q.pop(); t != nil; t = q.pop() {
		order = append(order, t.in.Job.ID)
	}
	return strings.Join(order, " ")
}

func TestFairQueue(t *testing.T) {
	var q fairQueue
	names := []string{"a1", "a2", "a3", "b1", "a4", "c1", "c2"}
	waiting(&q, names...)
	if got, want := drain(&q), "a1 b1 c1 a2 c2 a3 a4"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	tasks := waiting(&q, names...)
	q.remove(tasks["a1"])
	q.remove(tasks["b1"])
	q.pushFront(tasks["b1"])
	if last := q.longest().last(); last != tasks["a4"] || q.waiting(last.context()) != 3 || q.waiting("nobody") != 0 {
		t.Errorf("last of the longest is %v", last.in.Job.ID)
	}
	if got, want := drain(&q), "b1 a2 c1 a3 c2 a4"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if q.len() != 0 || len(q.root.below) != 0 || q.root.order.Len() != 0 || q.longest() != nil {
		t.Errorf("an empty queue holds %+v", q.root)
	}
	waiting(&q, names...)
	q.each(q.remove)
	if q.len() != 0 || drain(&q) != "" {
		t.Error("removing each leaves something")
	}
}

// TestSlowContextDelaysOnlyItself has a hundred slow scripts put into one context, by as many callers: names that nobody
// proves buy no turns. Those of another context that nobody knows take turns with them, and those that are known to be
// quick do not wait for them.
func TestSlowContextDelaysOnlyItself(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet(), Children: 2})
	good := scripting.Input{Script: scripting.Script{Source: `print("good")`}, Job: scripting.Job{Caller: "brief", Context: "brief"}, Limits: patient}
	known(t, s, good)
	var slow sync.WaitGroup
	var ended atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	const slowJobs = 100
	for i := range slowJobs {
		slow.Go(func() {
			_, err := s.Run(ctx, scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("for {} // %d", i)},
				Job: scripting.Job{Caller: fmt.Sprint("slow ", i), Context: "slow"}, Limits: scripting.Limits{Time: 300 * time.Millisecond}})
			if kindOf(err) == scripting.KindTimeLimit {
				ended.Add(1)
			}
		})
	}
	for s.Stats().Waiting < slowJobs/2 {
		pause(t, time.Millisecond)
	}
	for range 20 {
		if _, err := s.Run(t.Context(), good); err != nil {
			t.Error(err)
		}
	}
	before := ended.Load()
	if before > slowJobs/2 {
		t.Errorf("20 runs of a quick script took as long as %d slow ones", before)
	}
	fresh := good
	for i := range 3 {
		fresh.Script.Source = fmt.Sprintf("print(%d)", i)
		if _, err := s.Run(t.Context(), fresh); err != nil {
			t.Error(err)
		}
	}
	if n := ended.Load() - before; n > 12 { // a turn each, and those that ran already
		t.Errorf("3 unknown scripts of another context ran after %d slow ones", n)
	}
	if wait := s.Stats().WaitMost; wait <= 0 {
		t.Errorf("the longest wait was %s", wait)
	}
	cancel()
	slow.Wait()
}
