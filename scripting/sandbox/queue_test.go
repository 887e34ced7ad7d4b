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
		parts := strings.Split(name, ".") // caller, context, number
		t := &task{in: scripting.Input{Job: scripting.Job{ID: name, Caller: parts[0], Context: parts[1]}}}
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
	names := []string{"a.x.1", "a.x.2", "a.x.3", "a.y.1", "b.x.1", "a.x.4", "c.z.1", "c.z.2"}
	waiting(&q, names...)
	if got, want := drain(&q), "a.x.1 b.x.1 c.z.1 a.y.1 c.z.2 a.x.2 a.x.3 a.x.4"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	tasks := waiting(&q, names...)
	q.remove(tasks["a.x.1"])
	q.remove(tasks["b.x.1"])
	q.pushFront(tasks["b.x.1"])
	if last := q.last("b"); last != tasks["a.y.1"] && last != tasks["a.x.4"] {
		t.Errorf("last is %v", last.in.Job.ID)
	}
	if last := q.last("a"); last != nil {
		t.Errorf("the caller with the most has to give way to itself: %v", last)
	}
	if got, want := drain(&q), "b.x.1 a.x.2 c.z.1 a.y.1 c.z.2 a.x.3 a.x.4"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if q.len() != 0 || len(q.root.below) != 0 || q.root.order.Len() != 0 {
		t.Errorf("an empty queue holds %+v", q.root)
	}
	waiting(&q, names...)
	q.each(q.remove)
	if q.len() != 0 || drain(&q) != "" {
		t.Error("removing each leaves something")
	}
}

func TestConduct(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var c conduct
	c.strike(now)
	c.strike(now.Add(2 * time.Minute))
	if c.refused(now.Add(2 * time.Minute)) {
		t.Error("refused after two deaths far apart")
	}
	now = now.Add(2*time.Minute + time.Second)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 16} {
		if c.strike(now); !c.refused(now.Add(pause*time.Minute-1)) || c.refused(now.Add(pause*time.Minute)) {
			t.Errorf("refused until %s, want %d minutes after %s", c.until, pause, now)
		}
		now = c.until
		c.strike(now)
	}
	for range 3 {
		c.ran(time.Millisecond)
	}
	if !c.quick() {
		t.Error("three short runs are not enough")
	}
	if c.ran(time.Second); c.quick() {
		t.Error("a long run among three is forgiven")
	}
	for range 100 {
		c.ran(time.Millisecond)
	}
	for range 4 {
		c.ran(time.Second)
	}
	if !c.quick() {
		t.Error("four long runs after a hundred short ones are not forgiven")
	}
}

func TestRecordsForgetTheOldest(t *testing.T) {
	var r records
	first := r.get("0")
	for i := range 2 * remembered {
		r.get(fmt.Sprint(i))
		if r.get("0") != first {
			t.Fatal("one that is seen all the time is forgotten")
		}
	}
	if len(r.byKey) != remembered || r.seen.Len() != remembered {
		t.Errorf("%d and %d are remembered", len(r.byKey), r.seen.Len())
	}
}

// TestSlowCallerDelaysOnlyItself has a caller put in a hundred slow scripts. Those of another caller that nobody knows take
// turns with them, and those that are known to be quick do not wait at all.
func TestSlowCallerDelaysOnlyItself(t *testing.T) {
	s := open(t, nil, Options{Logger: quiet()})
	good := scripting.Input{Script: scripting.Script{Source: `print("good")`}, Job: scripting.Job{Caller: "brief"}, Limits: patient}
	known(t, s, good)
	var slow sync.WaitGroup
	var ended atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	const slowJobs = 100
	for i := range slowJobs {
		slow.Go(func() {
			_, err := s.Run(ctx, scripting.Input{Script: scripting.Script{Source: fmt.Sprintf("for {} // %d", i)},
				Job: scripting.Job{Caller: "slow", Context: fmt.Sprint(i)}, Limits: scripting.Limits{Time: 300 * time.Millisecond}})
			if kindOf(err) == scripting.KindTimeLimit {
				ended.Add(1)
			}
		})
	}
	for s.Stats().Waiting < slowJobs/2 {
		pause(t, time.Millisecond)
	}
	start := time.Now()
	for range 20 {
		if _, err := s.Run(t.Context(), good); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(start) / 20; raceOff && took > 50*time.Millisecond {
		t.Errorf("a quick script took %s beside slow ones", took)
	}
	fresh := good
	for i := range 3 {
		fresh.Script.Source = fmt.Sprintf("print(%d)", i)
		if _, err := s.Run(t.Context(), fresh); err != nil {
			t.Error(err)
		}
	}
	if n := ended.Load(); n > slowJobs*3/4 {
		t.Errorf("the unknown scripts of another caller ran after %d of %d slow ones", n, slowJobs)
	}
	if wait := s.Stats().WaitMost; wait <= 0 {
		t.Errorf("the longest wait was %s", wait)
	}
	cancel()
	slow.Wait()
}
