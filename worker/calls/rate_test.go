package calls

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// arrivals is an API that remembers when it was asked.
type arrivals struct {
	mu sync.Mutex
	at []time.Time
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	a.at = append(a.at, time.Now())
	a.mu.Unlock()
	w.Write([]byte("ok"))
}

// most is how much more than a rate any window holds, as the time by which calls came too early.
func (r Rate) most(at []time.Time) (early time.Duration) {
	for i := range at {
		for j := i + 1; j < len(at); j++ {
			early = max(early, time.Duration(j-i)*r.distance()-r.early()-at[j].Sub(at[i]))
		}
	}
	return early
}

// busyMachine is how much longer a request may take at one time than at another, where tests of other packages run beside.
const busyMachine = 2 * time.Second

// TestRateOverThePool: four workers together never call faster than the rate allows, over any window, but for what the way
// to the API takes longer at one time than at another. (That they use it up is seen below, where no machine is slow.)
func TestRateOverThePool(t *testing.T) { // by itself: other tests would be in the way
	const n = 300
	r := newRig(t)
	api := &arrivals{}
	url := serve(t, api)
	rate := must(ParseRate("60/s"))(t)
	r.workers(t, 4, Service{Name: "acme", URL: url, AllowPrivate: true, Rate: rate})
	for _, o := range r.openMany(t, n, "acme", url) {
		equal(t, "status", o.answer(t).Status, 200)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	slices.SortFunc(api.at, time.Time.Compare)
	equal(t, "requests", len(api.at), n)
	took, early := api.at[n-1].Sub(api.at[0]), rate.most(api.at)
	t.Logf("%d calls in %s, want %s; at most %s too early", n, took, (n-1)*rate.distance(), early)
	if early > tooLate+busyMachine {
		t.Errorf("a window holds %s more than the rate", early)
	}
}

// memory is a pool's marks with a clock that may be far from the workers', and with writes that take a while.
type memory struct {
	mu     sync.Mutex
	mark   stream.RateMark
	ahead  time.Duration
	writes int
	late   func() time.Duration
}

func (m *memory) RateMark(context.Context, string) (stream.RateMark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mark, nil
}

func (m *memory) SetRateMark(ctx context.Context, _ string, mark stream.RateMark) (stream.RateMark, error) {
	_ = pause(ctx, m.late()) // its error is that of ctx, which does not end
	m.mu.Lock()
	defer m.mu.Unlock()
	if mark.Revision != m.mark.Revision {
		return mark, stream.ErrConflict
	}
	m.writes++
	mark.Revision++
	m.mark = mark
	return mark, nil
}

func (m *memory) RateClock(context.Context) (time.Time, error) { return time.Now().Add(m.ahead), nil }

// paced is when each of n calls of so many workers may begin, in the order of time.
func paced(t *testing.T, m *memory, rate Rate, workers, n int) []time.Time {
	t.Helper()
	var mu sync.Mutex
	var at []time.Time
	var group sync.WaitGroup
	for range workers {
		p := newPacer(Service{Name: "acme", Rate: rate}, pacing{m}, rand.N[time.Duration])
		for range n / workers {
			group.Go(func() {
				if _, err := p.wait(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Now())
			})
		}
	}
	group.Wait()
	return at
}

// pacing is a Pacing of marks alone.
type pacing struct{ Marks }

func (pacing) Service(context.Context, string) (stream.ServiceState, error) {
	return stream.ServiceState{}, nil
}

func (pacing) ChangeCalls(context.Context, string, func(*stream.ServiceState) bool) (stream.ServiceState, bool, error) {
	return stream.ServiceState{}, false, nil
}

func (pacing) LimitByRate(context.Context, string, int, int) error { return nil }

func (pacing) WatchCalls(context.Context, func(string)) error { return nil }

// roundTrip is what a word to the server and back takes in what follows.
const roundTrip = time.Millisecond

// TestRates: the rate is kept but for a round trip, and used up, whatever the workers' clocks say, with few words to the server.
func TestRates(t *testing.T) {
	for _, test := range []struct {
		rate       Rate
		workers, n int
		ahead      time.Duration
		writes     int // at most
	}{
		{Rate{Calls: 25, Per: time.Second}, 4, 400, 0, 60},
		{Rate{Calls: 1000, Per: time.Second}, 4, 2000, time.Hour, 12},
		{Rate{Calls: 100, Per: time.Minute}, 3, 30, -time.Hour, 30},
		{Rate{Calls: 10, Per: time.Hour}, 2, 10, 0, 10},
		{Rate{Calls: 10, Per: time.Second, Burst: 20}, 4, 100, 0, 100},
	} {
		t.Run(test.rate.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &memory{ahead: test.ahead, late: func() time.Duration { return roundTrip }}
				at := paced(t, m, test.rate, test.workers, test.n)
				if early := test.rate.most(at); early > roundTrip {
					t.Errorf("a window holds %s more than the rate", early)
				}
				want := time.Duration(test.n-max(1, test.rate.Burst)) * test.rate.distance()
				if took := at[len(at)-1].Sub(at[0]); took > want+want/20+test.rate.distance() {
					t.Errorf("%d calls took %s, want %s", test.n, took, want)
				}
				if m.writes > test.writes {
					t.Errorf("%d calls took %d writes, want at most %d", test.n, m.writes, test.writes)
				}
				t.Logf("%d calls, %d writes", test.n, m.writes)
			})
		})
	}
}

// TestLateSlots: what a server takes long to write comes too early by no more than a slot may be late.
func TestLateSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := Rate{Calls: 50, Per: time.Second}
		m := &memory{late: func() time.Duration { return rand.N(time.Second) }}
		if early := rate.most(paced(t, m, rate, 4, 400)); early > tooLate {
			t.Errorf("a window holds %s more than the rate, want at most %s", early, tooLate)
		}
	})
}

// farAway is a server whose answers to what time it is take a while to be asked for, or to come.
type farAway struct {
	*memory
	there, back time.Duration
}

func (f farAway) RateClock(ctx context.Context) (time.Time, error) {
	_ = pause(ctx, f.there) // its error is that of ctx, which does not end
	now, err := f.memory.RateClock(ctx)
	_ = pause(ctx, f.back)
	return now, err
}

// TestSlotsAreNeverEarly: no slot begins before its time by the server's clock, and none later than the server's answer took to
// come, whatever the way there and back took.
func TestSlotsAreNeverEarly(t *testing.T) {
	const way = 200 * time.Millisecond
	for name, far := range map[string]farAway{"there": {there: way}, "back": {back: way}, "both": {there: way, back: way}, "near": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rate := Rate{Calls: 10, Per: time.Second}
				far.memory = &memory{ahead: time.Hour, late: func() time.Duration { return 0 }}
				p := newPacer(Service{Name: "acme", Rate: rate}, pacing{far}, rand.N[time.Duration])
				for i := range 20 {
					must(p.wait(t.Context()))(t)
					late := time.Now().Add(far.ahead).Sub(far.mark.Next.Add(-rate.distance()))
					if late < 0 || late > far.back {
						t.Errorf("call %d begins %s after its slot, want 0s to %s", i, late, far.back)
					}
				}
			})
		})
	}
}

// TestMarkFarAhead: a mark that no reservation reaches, of a rate that was slower or a clock that was put back, holds nobody up.
func TestMarkFarAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{late: func() time.Duration { return 0 }, mark: stream.RateMark{Next: time.Now().Add(time.Hour), Revision: 7}}
		began := time.Now()
		paced(t, m, Rate{Calls: 10, Per: time.Second}, 1, 5)
		equal(t, "took", time.Since(began), 400*time.Millisecond)
	})
}

// TestStopWhileWaiting: a worker that stops gives back at once what waits for its slot.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &arrivals{}
	url := serve(t, api)
	service := Service{Name: "acme", URL: url, AllowPrivate: true, Rate: Rate{Calls: 2, Per: time.Hour}, MaxInFlight: 3}
	stop := run(t, r.performer(t, service))
	r.openMany(t, 3, "acme", url)
	r.settle(t, 2) // which of them gets the slot is chance
	began := time.Now()
	stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	r.settle(t, 2)
	api.mu.Lock()
	defer api.mu.Unlock()
	equal(t, "calls that were sent", len(api.at), 1)
}

// TestPauseWhileWaiting: what waits for its slot while its service is paused is not sent before the pause ends, and is handed out
// again under the limit of then.
func TestPauseWhileWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := &busy{status: http.StatusTooManyRequests}
	url := serve(t, api)
	r.workers(t, 2, Service{Name: "busy", URL: url, AllowPrivate: true, Rate: Rate{Calls: 20, Per: time.Second}})
	for _, o := range r.openMany(t, 20, "busy", url) {
		equal(t, "status", o.answer(t).Status, 200)
	}
	api.mu.Lock()
	defer api.mu.Unlock()
	if api.early > 2 { // what was on its way when the API asked to be left alone
		t.Errorf("%d requests came during the pause", api.early)
	}
	equal(t, "requests", len(api.asked), 21)
}

// shut is a Pacing by which every service is paused for as long as an operator who says no end pauses it.
type shut struct{ pacing }

func (shut) Service(context.Context, string) (stream.ServiceState, error) {
	now := time.Now()
	return stream.ServiceState{Now: now, PausedUntil: now.Add(100 * 365 * 24 * time.Hour)}, nil
}

// TestResumeWhileWaiting: what got its slot during a pause without an end is on a timer for a short while, and goes on when the
// service does.
func TestResumeWhileWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url := serve(t, &arrivals{})
	p := r.performer(t, Service{Name: "acme", URL: url, AllowPrivate: true, Rate: Rate{Calls: 100, Per: time.Second}})
	p.config.Pacing = shut{pacing{r.pool}}
	run(t, p)
	o := r.open(t, "a", "acme", job.Request{Method: "GET", URL: url})
	if wait := time.Until(r.timer(t)); wait > postponed {
		t.Fatalf("the call is on a timer for %s, want at most %s", wait, postponed)
	}
	p.served("acme").brake.learn(stream.ServiceState{Now: time.Now()}, time.Now())
	equal(t, "status", o.answer(t).Status, 200)
}

// TestClosedCallGivesItsSlotBack: a call that is not sent uses up nothing of the rate.
func TestClosedCallGivesItsSlotBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.performer(t, Service{Name: "acme", URL: "https://api.acme.example", Rate: Rate{Calls: 1, Per: time.Hour}})
	ok(t, p.Open(r.ctx))
	t.Cleanup(p.Close)
	o := r.prepare(t, "a", "acme", job.Request{Method: "GET", URL: "https://api.acme.example"})
	o.commit(t, false)
	o.publish(t)
	by := p.served("acme")
	d := must(by.taking.Next())(t)
	p.hold(by, d)
	equal(t, "nothing is sent", p.prepare(r.ctx, r.ctx, by, d) == nil, true)
	equal(t, "slots given back", len(by.pacer.returned), 1)
}

// TestSlotGivenBack: a slot that is given back goes to the call that waits for the next one, which may be far, unless it is too
// late by then.
func TestSlotGivenBack(t *testing.T) {
	for late, want := range map[time.Duration]time.Duration{0: 0, tooLate: tooLate, tooLate + time.Millisecond: time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{late: func() time.Duration { return 0 }}
			p := newPacer(Service{Name: "acme", Rate: Rate{Calls: 1, Per: time.Hour}}, pacing{m}, rand.N[time.Duration])
			slot := must(p.wait(t.Context()))(t)
			var took time.Duration
			var next sync.WaitGroup
			next.Go(func() {
				if _, err := p.wait(t.Context()); err != nil {
					t.Error(err)
				}
				took = time.Since(slot)
			})
			synctest.Wait() // it rests until the next slot is near
			ok(t, pause(t.Context(), late))
			p.giveBack(slot)
			next.Wait()
			equal(t, "the next call begins after", took, want)
		})
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]Rate{
		"25/s": {Calls: 25, Per: time.Second}, "100/m": {Calls: 100, Per: time.Minute}, "1000 / h": {Calls: 1000, Per: time.Hour},
	} {
		got := must(ParseRate(text))(t)
		equal(t, text, got, want)
		equal(t, "again", must(ParseRate(got.String()))(t), want)
	}
	for _, text := range []string{"", "25", "0/s", "-1/s", "25/d", "1.5/s", "s/25", "25/s/s"} {
		if r, err := ParseRate(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, r)
		}
	}
	equal(t, "with a burst", fmt.Sprint(Rate{Calls: 5, Per: time.Minute, Burst: 3}), "5/m, burst 3")
	equal(t, "useful", Rate{Calls: 10, Per: time.Second}.useful(30*time.Second), 306)
	equal(t, "useful", Rate{Calls: 1, Per: time.Hour}.useful(30*time.Second), 2)
}
