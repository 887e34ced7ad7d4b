package stream

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
)

// storeScript stores a release of one script, and returns its name.
func (p *Pool) storeScript(t *testing.T, source string) string {
	t.Helper()
	r := release(map[string]string{"main": source})
	ok(t, p.StoreRelease(within(t), r))
	return r.Name
}

func TestTurns(t *testing.T) {
	p := newPool(t, Options{})
	if _, err := p.CurrentRelease(within(t)); !errors.Is(err, ErrNoRelease) {
		t.Fatalf("before the first: %v", err)
	}
	if all := get(p.ReleaseTurns(within(t)))(t); len(all) != 0 {
		t.Fatalf("before the first: %v", all)
	}
	one, two := p.storeScript(t, "1"), p.storeScript(t, "2")
	first := get(p.TurnRelease(within(t), Turn{Name: one, By: "worker-a", From: "worker", Shipped: true}, 0))(t)
	if first.Revision == 0 || first.Time.IsZero() || first.Name != one || !first.Shipped || first.By != "worker-a" {
		t.Errorf("the first turn is %+v", first)
	}
	if got := get(p.CurrentRelease(within(t)))(t); !cmp.Equal(got, first) {
		t.Errorf("current is %+v, want %+v", got, first)
	}
	second := get(p.TurnRelease(within(t), Turn{Name: two, Note: "new prices"}, first.Revision))(t)
	third := get(p.TurnRelease(within(t), Turn{Name: one, From: "rollback"}, second.Revision))(t)
	if diff := cmp.Diff([]Turn{third, second, first}, get(p.ReleaseTurns(within(t)))(t)); diff != "" {
		t.Error(diff)
	}
}

// TestTurnsMeet: of those who saw the same turn, one turns.
func TestTurnsMeet(t *testing.T) {
	p := newPool(t, Options{})
	names := []string{p.storeScript(t, "1"), p.storeScript(t, "2"), p.storeScript(t, "3"), p.storeScript(t, "4")}
	var won []Turn
	var mu sync.Mutex
	var group sync.WaitGroup
	for _, name := range names {
		group.Go(func() {
			turn, err := p.TurnRelease(within(t), Turn{Name: name}, 0)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, turn)
			} else if !errors.Is(err, ErrTurned) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(won) != 1 || get(p.CurrentRelease(within(t)))(t) != won[0] {
		t.Errorf("%d turned: %+v", len(won), won)
	}
}

func TestTurnThatCannotBeRead(t *testing.T) {
	p := newPool(t, Options{})
	ok(t, p.Publish(within(t), job.Message{Subject: job.TurnsSubject(p.Name), Data: []byte("junk")}))
	if _, err := p.CurrentRelease(within(t)); err == nil || !strings.Contains(err.Error(), "can't be read") || errors.Is(err, ErrNoRelease) {
		t.Errorf("current: %v", err)
	}
	if _, err := p.ReleaseTurns(within(t)); err == nil || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("turns: %v", err)
	}
}

// following hands over what WatchRelease hears, until the test ends.
func following(t *testing.T, p *Pool) (heard <-chan Turn, end func()) {
	t.Helper()
	turns := make(chan Turn, 100)
	end = until(t, func(ctx context.Context) error { return p.WatchRelease(ctx, func(turn Turn) { turns <- turn }) })
	return turns, end
}

// until runs a watch until the test, or who calls end, ends it.
func until(t *testing.T, watch func(context.Context) error) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- watch(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the watch ended with %v", err)
		}
	})
	t.Cleanup(end)
	return end
}

func hear(t *testing.T, turns <-chan Turn) Turn {
	t.Helper()
	select {
	case turn := <-turns:
		return turn
	case <-within(t).Done():
		t.Fatal("no turn was heard")
		return Turn{}
	}
}

func TestWatchRelease(t *testing.T) {
	p := newPool(t, Options{})
	waits, _ := following(t, p) // for the first
	one, two := p.storeScript(t, "1"), p.storeScript(t, "2")
	first := get(p.TurnRelease(within(t), Turn{Name: one}, 0))(t)
	if got := hear(t, waits); got != first {
		t.Errorf("heard %+v, want %+v", got, first)
	}
	comes, end := following(t, p) // later
	if got := hear(t, comes); got != first {
		t.Errorf("heard %+v, want %+v", got, first)
	}
	want, last := []string{two, one, two}, first.Revision
	for _, name := range want {
		last = get(p.TurnRelease(within(t), Turn{Name: name}, last))(t).Revision
	}
	for _, turns := range []<-chan Turn{waits, comes} {
		var got []string
		for range want {
			got = append(got, hear(t, turns).Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("heard %v, want %v", got, want)
		}
	}
	end()
	select {
	case turn := <-comes:
		t.Errorf("heard %+v twice", turn)
	default:
	}
}

// TestWatchReleaseAfterTheConnectionWasLost: what was turned meanwhile is heard, and what comes after it.
func TestWatchReleaseAfterTheConnectionWasLost(t *testing.T) {
	server := get(embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 16 << 30, Listen: "127.0.0.1:0"}))(t)
	t.Cleanup(server.Close)
	connected := func() *nats.Conn {
		nc := get(nats.Connect(server.URL(), nats.ReconnectWait(time.Millisecond)))(t)
		t.Cleanup(nc.Close)
		return nc
	}
	p := get(Ensure(within(t), connected(), "payments", Options{}))(t)
	one, two := p.storeScript(t, "1"), p.storeScript(t, "2")
	watching := get(Open(connected(), p.Name))(t)
	turns, _ := following(t, watching)
	last := get(p.TurnRelease(within(t), Turn{Name: one}, 0))(t)
	for _, name := range []string{two, one, two} {
		hear(t, turns)
		ok(t, watching.nc.ForceReconnect())
		last = get(p.TurnRelease(within(t), Turn{Name: name}, last.Revision))(t)
	}
	if got := hear(t, turns); got != last {
		t.Errorf("heard %+v, want %+v", got, last)
	}
}

// TestWatchReleaseWithoutItsConsumer: when the server has removed the consumer, which nobody tells, the watch begins
// again.
func TestWatchReleaseWithoutItsConsumer(t *testing.T) {
	p := newPool(t, Options{})
	one, two := p.storeScript(t, "1"), p.storeScript(t, "2")
	turns := make(chan Turn, 10)
	w := &turnWatch{pool: p, heard: func(turn Turn) { turns <- turn }, heartbeat: 100 * time.Millisecond}
	until(t, w.run)
	first := get(p.TurnRelease(within(t), Turn{Name: one}, 0))(t)
	hear(t, turns)
	s := get(p.js.Stream(within(t), job.ReleasesStream(p.Name)))(t)
	for name := range s.ConsumerNames(within(t)).Name() {
		ok(t, s.DeleteConsumer(within(t), name))
	}
	second := get(p.TurnRelease(within(t), Turn{Name: two}, first.Revision))(t)
	if got := hear(t, turns); got != second {
		t.Errorf("heard %+v, want %+v", got, second)
	}
}

// TestWatchReleaseOfAClosedConnection ends with an error, as nothing will come any more.
func TestWatchReleaseOfAClosedConnection(t *testing.T) {
	p := newPool(t, Options{})
	get(p.TurnRelease(within(t), Turn{Name: p.storeScript(t, "1")}, 0))(t)
	err := p.WatchRelease(within(t), func(Turn) { p.nc.Close() })
	if !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v", err)
	}
}
