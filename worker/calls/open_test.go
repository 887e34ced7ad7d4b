package calls

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// slowLeader answers each read of a context when the test says so, and counts them.
type slowLeader struct {
	Streams
	reads  int
	answer chan stream.Entry
}

func (s *slowLeader) ContextFromLeader(ctx context.Context, _ string) (stream.Entry, error) {
	s.reads++
	select {
	case e := <-s.answer:
		return e, nil
	case <-ctx.Done():
		return stream.Entry{}, ctx.Err()
	}
}

// TestLooksAreShared: calls of a context that ask at the same time share a read of it, but not one that was under way
// before they asked.
func TestLooksAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leader := &slowLeader{answer: make(chan stream.Entry)}
		p := New(Config{Streams: leader, Stands: func(context.Context, string, stream.Entry) error { return nil }})
		var told sync.Map
		var group sync.WaitGroup
		ask := func(id string) {
			group.Go(func() {
				open, err := p.open(t.Context(), job.Address{Pool: "p", Context: "c"}, &job.Call{ID: id, Revision: 2})
				told.Store(id, fmt.Sprint(open, err))
			})
			synctest.Wait()
		}
		ask("1-0")
		for i := range 10 {
			ask(fmt.Sprintf("2-%d", i))
		}
		equal(t, "reads while the first is under way", leader.reads, 1)
		leader.answer <- stream.Entry{Revision: 2, Data: []byte(`{"v":1,"calls":{"1-0":{},"2-0":{}}}`)}
		synctest.Wait()
		equal(t, "reads when it has ended", leader.reads, 2)
		leader.answer <- stream.Entry{Revision: 3, Data: []byte(`{"v":1,"calls":{"1-0":{},"2-9":{}}}`)}
		group.Wait()
		equal(t, "reads", leader.reads, 2)
		for id, want := range map[string]string{"1-0": "true <nil>", "2-0": "false <nil>", "2-9": "true <nil>"} {
			got, _ := told.Load(id)
			equal(t, "call "+id+" is open", got.(string), want)
		}
		equal(t, "looks that are left", len(p.looks.under)+len(p.looks.next), 0)
	})
}

// TestLooksEnd: whoever waits for another's read goes on when it was ended, and when its own time is over.
func TestLooksEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leader := &slowLeader{answer: make(chan stream.Entry)}
		p := New(Config{Streams: leader})
		var group sync.WaitGroup
		a, call := job.Address{Pool: "p", Context: "c"}, &job.Call{ID: "1-0", Revision: 1}
		begin := func(ctx context.Context, want string) {
			group.Go(func() {
				open, err := p.open(ctx, a, call)
				equal(t, "open", fmt.Sprint(open, err), want)
			})
			synctest.Wait()
		}
		first, endFirst := context.WithCancel(t.Context())
		second, endSecond := context.WithCancel(t.Context())
		begin(first, "false context canceled")
		begin(second, "false context canceled")
		begin(t.Context(), "true <nil>")
		endSecond()
		endFirst()
		leader.answer <- stream.Entry{Revision: 1, Data: []byte(`{"v":1,"calls":{"1-0":{}}}`)}
		group.Wait()
		equal(t, "looks that are left", len(p.looks.under)+len(p.looks.next), 0)
	})
}
