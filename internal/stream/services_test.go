package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// TestPauseCalls: a paused service's calls are handed to nobody until it goes on, by itself or by hand; a pause never
// cuts a longer one short.
func TestPauseCalls(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 7, "other": 3}})
	pause := func(d time.Duration) bool { return get(p.PauseCalls(within(t), "acme", time.Now().Add(d)))(t) }
	taken := get(p.Calls(within(t), "acme", 7, 1))(t)
	t.Cleanup(taken.Close)
	handed := make(chan *Delivery)
	go func() {
		for {
			d, err := taken.Next()
			if err != nil {
				close(handed)
				return
			}
			handed <- d
		}
	}()
	t.Cleanup(func() {
		taken.Stop()
		for range handed { // until it is closed
		}
	})
	equal(t, "changed", pause(time.Hour), true)
	equal(t, "changed by a shorter one", pause(time.Minute), false)
	if err := p.Publish(within(t), job.Message{Subject: "payments.a.call.acme"}); err != nil {
		t.Fatal(err)
	}
	all := get(p.Services(within(t)))(t)
	equal(t, "services", len(all), 2)
	acme, other := all[0], all[1]
	equal(t, "names", acme.Service+" "+other.Service, "acme other")
	equal(t, "waiting", acme.Waiting, 1)
	equal(t, "in flight", acme.InFlight, 0)
	equal(t, "limit", acme.MaxInFlight, 7)
	if left := time.Until(acme.PausedUntil); left < 50*time.Minute || left > time.Hour {
		t.Errorf("paused for %s more", left)
	}
	equal(t, "the other's pause", other.PausedUntil.IsZero(), true)
	select {
	case <-handed:
		t.Error("a call of a paused service was handed out")
	default:
	}
	began := time.Now()
	equal(t, "resumed", get(p.ResumeCalls(within(t), "acme"))(t), true)
	equal(t, "paused when that has returned", get(p.Service(within(t), "acme"))(t).PausedUntil.IsZero(), true)
	d := <-handed
	if took := time.Since(began); took > pullHeartbeat/2 { // with a heartbeat the server looks by itself
		t.Errorf("handed out after %s", took)
	}
	equal(t, "resumed what is not paused", get(p.ResumeCalls(within(t), "acme"))(t), false)
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	// The pause ends by itself.
	began = time.Now()
	equal(t, "changed again", pause(700*time.Millisecond), true)
	if err := p.Publish(within(t), job.Message{Subject: "payments.a.call.acme"}); err != nil {
		t.Fatal(err)
	}
	<-handed
	if took := time.Since(began); took < 600*time.Millisecond {
		t.Errorf("handed out after %s", took)
	}
	for _, err := range []error{func() error { _, err := p.ResumeCalls(within(t), "acne"); return err }(), func() error { _, err := p.PauseCalls(within(t), "acne", time.Now()); return err }()} {
		if err == nil || !strings.Contains(err.Error(), "the pool payments has no service acne; it has: acme, other") {
			t.Errorf("got %v", err)
		}
	}
}

// TestLimitCalls sets a limit on a consumer that there is, and on one that there is not yet, and keeps its pause.
func TestLimitCalls(t *testing.T) {
	t.Parallel()
	p := newPool(t, Options{MaxBytes: 1 << 20, Services: map[string]int{"acme": 7}})
	get(p.PauseCalls(within(t), "acme", time.Now().Add(time.Hour)))(t)
	for service, most := range map[string]int{"acme": 10, "new": 3} {
		if err := p.LimitCalls(within(t), service, most); err != nil {
			t.Fatal(err)
		}
	}
	all := get(p.Services(within(t)))(t)
	equal(t, "acme", all[0].MaxInFlight, 10)
	equal(t, "new", all[1].MaxInFlight, 3)
	equal(t, "paused still", all[0].PausedUntil.After(time.Now()), true)
}
