package stream

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// release is a release of these scripts.
func release(scripts map[string]string) Release {
	return Release{Name: job.ReleaseName(scripts), Scripts: scripts}
}

func TestReleaseIsStoredOnce(t *testing.T) {
	p := newPool(t, Options{})
	scripts := map[string]string{"empty": "", "greet": `print("grüezi")`}
	for i := range 100 { // several parts
		scripts[fmt.Sprintf("large_%d", i)] = strings.Repeat(fmt.Sprintf("// %d <&>\n", i), 500)
	}
	want := release(scripts)
	if _, err := p.LoadRelease(within(t), want.Name); !errors.Is(err, ErrNoRelease) {
		t.Fatalf("before it is stored: %v", err)
	}
	ok(t, p.StoreRelease(within(t), want))
	stored := p.releasesState(t)
	if parts := len(want.portions()); parts < 3 || stored.Msgs != uint64(parts+1) {
		t.Errorf("%d parts are stored as %d messages", parts, stored.Msgs)
	}
	ok(t, p.StoreRelease(within(t), want))
	if again := p.releasesState(t); again.LastSeq != stored.LastSeq {
		t.Errorf("stored again: the stream went from %d to %d", stored.LastSeq, again.LastSeq)
	}
	got := get(p.LoadRelease(within(t), want.Name))(t)
	if got.Name != want.Name || !maps.Equal(got.Scripts, want.Scripts) {
		t.Error("what is loaded is not what was stored")
	}
}

// releasesState is the state of the stream of releases.
func (p *Pool) releasesState(t *testing.T) jetstream.StreamState {
	t.Helper()
	return get(p.js.Stream(within(t), job.ReleasesStream(p.Name)))(t).CachedInfo().State
}

func TestReleaseHalfStored(t *testing.T) {
	p := newPool(t, Options{})
	r := release(map[string]string{"a": strings.Repeat("a", 100<<10), "b": strings.Repeat("b", 100<<10)})
	parts := get(r.parts())(t)
	ok(t, p.Publish(within(t), job.Message{Subject: job.PartSubject(p.Name, r.Name, 0), Data: parts[0]})) // and there the push died
	if _, err := p.LoadRelease(within(t), r.Name); !errors.Is(err, ErrNoRelease) {
		t.Errorf("a release without its head: %v", err)
	}
	if _, err := p.TurnRelease(within(t), Turn{Name: r.Name}, 0); !errors.Is(err, ErrNoRelease) {
		t.Errorf("turned to a release without its head: %v", err)
	}
	ok(t, p.StoreRelease(within(t), r))
	if got := get(p.LoadRelease(within(t), r.Name))(t); !maps.Equal(got.Scripts, r.Scripts) {
		t.Error("what is loaded is not what was stored")
	}
}

// TestReleaseDamaged: what is not what the name says is never taken for it, and a push mends it.
func TestReleaseDamaged(t *testing.T) {
	r := release(map[string]string{"a": strings.Repeat("a", 100<<10), "b": strings.Repeat("b", 100<<10)})
	parts := get(r.parts())(t)
	other := get(compressed(map[string]string{"b": "print(1)"}))(t)
	for name, damage := range map[string]struct{ subject, data, want string }{
		"part is missing":    {job.PartSubject("payments", r.Name, 1), "", "part 1 is missing"},
		"part is no gzip":    {job.PartSubject("payments", r.Name, 0), "junk", "part 0 can't be read"},
		"part is cut":        {job.PartSubject("payments", r.Name, 0), string(parts[0][:20]), "part 0 can't be read"},
		"part is another's":  {job.PartSubject("payments", r.Name, 1), string(other), "its scripts make it"},
		"part stands twice":  {job.PartSubject("payments", r.Name, 1), string(parts[0]), "don't go together"},
		"head is no JSON":    {job.ReleaseSubject("payments", r.Name), "{", "head can't be read"},
		"head counts it out": {job.ReleaseSubject("payments", r.Name), `{"parts":1}`, "its scripts make it"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(t, Options{})
			if damage.data == "" {
				ok(t, p.Publish(within(t), job.Message{Subject: job.PartSubject(p.Name, r.Name, 0), Data: parts[0]}))
				ok(t, p.Publish(within(t), job.Message{Subject: job.ReleaseSubject(p.Name, r.Name), Data: []byte(`{"parts":2}`)}))
			} else {
				ok(t, p.StoreRelease(within(t), r))
				ok(t, p.Publish(within(t), job.Message{Subject: damage.subject, Data: []byte(damage.data)}))
			}
			if _, err := p.LoadRelease(within(t), r.Name); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), damage.want) {
				t.Fatalf("got %v, want %q", err, damage.want)
			}
			ok(t, p.StoreRelease(within(t), r))
			if got := get(p.LoadRelease(within(t), r.Name))(t); !maps.Equal(got.Scripts, r.Scripts) {
				t.Error("the push did not mend it")
			}
		})
	}
}

func TestReleaseThatIsRefused(t *testing.T) {
	p := newPool(t, Options{})
	large := map[string]string{}
	for i := range 17 {
		large[fmt.Sprint(i)] = strings.Repeat("x", 1<<20)
	}
	for want, r := range map[string]Release{
		"its scripts make it": {Name: "0123456789ab", Scripts: map[string]string{"a": "1"}},
		"is not UTF-8":        release(map[string]string{"a": "\xff"}),
		"more than 16777216":  release(large),
	} {
		if err := p.StoreRelease(within(t), r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if n := p.releasesState(t).Msgs; n != 0 {
		t.Errorf("%d messages of releases that were refused", n)
	}
	for _, name := range []string{"", "current", "*", "0123456789aB", "../0123456"} {
		if _, err := p.LoadRelease(within(t), name); !errors.Is(err, ErrNoRelease) {
			t.Errorf("load %q: %v", name, err)
		}
	}
}

func TestReleasesFull(t *testing.T) {
	p := newPool(t, Options{})
	config := Releases(p.Name, Options{})
	config.MaxBytes = 300
	config.FirstSeq = get(p.js.Stream(within(t), config.Name))(t).CachedInfo().Config.FirstSeq
	get(p.js.UpdateStream(within(t), config))(t)
	r := release(map[string]string{"a": randomText(2000)})
	err := p.StoreRelease(within(t), r)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "nats stream edit RELEASES_payments --max-bytes") {
		t.Fatalf("got %v", err)
	}
	if _, err := p.LoadRelease(within(t), r.Name); !errors.Is(err, ErrNoRelease) {
		t.Errorf("a release that had no room: %v", err)
	}
}

// randomText is a text that compresses badly, and always the same.
func randomText(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(job.ReleaseName(map[string]string{"": fmt.Sprint(i)}))
	}
	return b.String()[:n]
}

// TestReleasesOfAnOlderPool: where the stream is missing, it is said who makes it.
func TestReleasesOfAnOlderPool(t *testing.T) {
	p := newPool(t, Options{})
	ok(t, p.js.DeleteStream(within(t), job.ReleasesStream(p.Name)))
	other := get(Open(p.nc, "other"))(t)
	r := release(map[string]string{"a": "1"})
	for pool, want := range map[*Pool]string{p: "`thence init --pool payments` does", other: "no worker pool named other"} {
		for what, do := range map[string]func(context.Context) error{
			"store":   func(ctx context.Context) error { return pool.StoreRelease(ctx, r) },
			"load":    func(ctx context.Context) error { _, err := pool.LoadRelease(ctx, r.Name); return err },
			"current": func(ctx context.Context) error { _, err := pool.CurrentRelease(ctx); return err },
			"turn":    func(ctx context.Context) error { _, err := pool.TurnRelease(ctx, Turn{Name: r.Name}, 0); return err },
			"turns":   func(ctx context.Context) error { _, err := pool.ReleaseTurns(ctx); return err },
		} {
			if err := do(within(t)); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrNoRelease) {
				t.Errorf("%s of %s: got %v, want %q", what, pool.Name, err, want)
			}
		}
	}
}

// TestReleasesStay: nobody removes a release by a right that Thence gives.
func TestReleasesStay(t *testing.T) {
	p := newPool(t, Options{})
	r := release(map[string]string{"a": "1"})
	ok(t, p.StoreRelease(within(t), r))
	s := get(p.js.Stream(within(t), job.ReleasesStream(p.Name)))(t)
	if err := s.Purge(within(t)); err == nil {
		t.Error("the stream was purged")
	}
	if err := s.DeleteMsg(within(t), s.CachedInfo().State.LastSeq); err == nil {
		t.Error("a message was deleted")
	}
	get(p.LoadRelease(within(t), r.Name))(t)
}
