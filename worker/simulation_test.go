package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/simulation"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker/calls"
)

var (
	histories = flag.Int("histories", 0, "how many histories TestSimulation makes; 0: as many as fit into the normal tests")
	firstSeed = flag.Uint64("seed", 1, "the seed of the first history")
	replay    = flag.Uint64("replay", 0, "the seed of a history to show move by move")
)

// TestSimulation runs the worker in thousands of histories of package simulation, each drawn from its seed, and checks
// what the protocol promises. A seed that fails is shown with:
//
//	go test ./worker -run TestSimulation -args -replay SEED
func TestSimulation(t *testing.T) {
	if *replay != 0 {
		show(t, *replay)
		return
	}
	count := cmp.Or(*histories, normalHistories())
	total := simulate(t, *firstSeed, count, t.Errorf)
	t.Logf("%d histories: %d moves, %d jobs, %d commits, %d calls, %d requests to APIs, %d times harm, %d turns to another release, %s of simulated time",
		count, total.Moves, total.Jobs, total.Commits, total.Calls, total.Requests, total.Harms, total.Turns, total.Time.Round(time.Hour))
}

// normalHistories is how many histories are made in the normal tests, and under the race detector.
func normalHistories() int {
	if testing.Short() {
		return 2_000
	}
	return 10_000
}

// simulate makes histories, on every core, until they are made or one fails. It returns what they were made of.
func simulate(t *testing.T, first uint64, count int, fail func(format string, args ...any)) simulation.Stats {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // histories are short-lived, and there are many
	var next, failed atomic.Int64
	var mu sync.Mutex
	var total simulation.Stats
	t.Run("histories", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); n <= int64(count) && failed.Load() == 0; n = next.Add(1) {
					r := history(t, first+uint64(n)-1)
					mu.Lock()
					total.Add(r.Stats)
					if v := r.Violation; v != nil && failed.Add(1) == 1 {
						fail("seed %d, after %d histories: %s: %s\n%s\ngo test ./worker -run TestSimulation -args -replay %d",
							r.Seed, n, v.Invariant, v.Detail, r.Trace(60), r.Seed)
					}
					mu.Unlock()
				}
			})
		}
	})
	return total
}

// show prints one history.
func show(t *testing.T, seed uint64) {
	t.Helper()
	r := history(t, seed)
	fmt.Print(r.Trace(1 << 30))
	if r.Violation != nil {
		t.Errorf("seed %d: %s: %s", seed, r.Violation.Invariant, r.Violation.Detail)
	}
}

// history makes the history of one seed.
func history(t *testing.T, seed uint64) (r simulation.Report) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { r = simulation.Run(seed, simulatedKeys(), simulated) })
	return r
}

// TestSimulationRepeats: the same seed makes the same history, to the last move. Without that no failure could be
// looked at.
func TestSimulationRepeats(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 60
	}
	for seed := range seeds {
		first, second := history(t, 1_000_000+seed), history(t, 1_000_000+seed)
		if first.Hash != second.Hash {
			t.Fatalf("seed %d: two histories of it differ\n%s\n\n%s", first.Seed, first.Trace(1<<30), second.Trace(1<<30))
		}
	}
}

// simulatedKeys is a keyring that is the same in every history.
func simulatedKeys() job.Keyring {
	var keys job.Keyring
	if err := json.Unmarshal([]byte(`[{"id":"k","secret":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]`), &keys); err != nil {
		panic(err)
	}
	return keys
}

// simulated is a worker process in a simulated world: the production worker from the deliveries to the outbox, and its
// performer, on the world's streams and APIs.
func simulated(ctx context.Context, p *simulation.Process) error {
	c := Config{
		Conn: &nats.Conn{}, Pool: simulation.Pool, Name: p.Name, Runner: programs{p}, Slots: p.Slots(), Grace: time.Second,
		Logger: quiet(), Secrets: func(string) (string, bool) { return "", false },
		Services: []Service{{
			Name: simulation.Service, URL: simulation.APIBase, Timeout: 8 * time.Second, Attempts: 5, MaxWait: 10 * time.Second, MaxInFlight: p.InFlight(),
		}},
	}
	if p.Holds() {
		c.HoldOn = []string{simulation.Brittle}
	}
	w, err := New(c)
	if err != nil {
		return err
	}
	current := new(scripting.Library)
	current.Load(p.Release().Scripts)
	scripts := newReleases(p, w.config.Logger, w.current, current)
	r := w.rounds(p.Journal(), simulatedKeys(), scripts)
	r.jitter = p.Jitter
	performing := w.performing(p.Performing(), r, simulatedKeys(), func(_ context.Context, s Service) (calls.Deliveries, error) {
		return p.Calls(s.Name), nil
	})
	performing.Transport, performing.Jitter = p, p.Jitter
	s := setup{rounds: r, performer: calls.New(performing), jobs: p.Jobs(), releases: scripts}
	if err := s.performer.Open(ctx); err != nil {
		return err
	}
	return w.work(ctx, s)
}

// programs runs the programs of simulated jobs, in place of scripts.
type programs struct{ process *simulation.Process }

func (r programs) Run(_ context.Context, in scripting.Input) (*scripting.Outcome, error) {
	p, err := programOf(in)
	if err != nil {
		return nil, err
	}
	if r.process.DiesOf(in.Job.Sequence, p.Kills) {
		return nil, r.process.Die()
	}
	if p.Fails && (in.Script.Name != simulation.Brittle || !r.process.Mended()) {
		return nil, &scripting.Error{Kind: scripting.KindRuntime, Script: in.Script.Name, Message: "the program fails"}
	}
	var s simulation.State
	if len(in.State) > 0 {
		if err := json.Unmarshal(in.State, &s); err != nil {
			return nil, err
		}
	}
	out := &scripting.Outcome{Effects: effectsOf(p, in.Job, len(s.Ran))}
	if p.Cancels && len(in.Job.Calls) > 0 {
		if out.Cancelled, err = openIn(in.Job.Calls); err != nil {
			return nil, err
		}
	}
	s.Ran, s.On = append(s.Ran, in.Job.Sequence), append(s.On, in.Library.Release())
	out.State, err = json.Marshal(s)
	return out, err
}

// openIn are the ids of the calls that a job is shown as open.
func openIn(calls []byte) (ids []string, err error) {
	var open []struct {
		ID string `json:"id"`
	}
	err = json.Unmarshal(calls, &open)
	for _, c := range open {
		ids = append(ids, c.ID)
	}
	return ids, err
}

// programOf is what a job is to do: a caller's or a dispatched one has it in its data, an answer in its call's tag.
func programOf(in scripting.Input) (simulation.Program, error) {
	if in.Job.Response == nil && in.Job.Failure == nil && in.Job.Operation != job.Timer {
		var o simulation.Order
		err := json.Unmarshal(in.Job.Data, &o)
		return o.Program, err
	}
	var tag simulation.Tag
	if err := json.Unmarshal(in.Job.Tag, &tag); err != nil {
		return simulation.Program{}, err
	}
	if in.Script.Name == simulation.Catch {
		return *tag.Catch, nil
	}
	return *tag.Then, nil
}

func effectsOf(p simulation.Program, j scripting.Job, after int) []scripting.Effect {
	var effects []scripting.Effect
	for i, s := range p.Steps {
		id := job.EffectID(j.Sequence, i)
		if s.To == "" {
			effects = append(effects, scripting.Effect{Call: callOf(s, j, id)})
			continue
		}
		data, err := json.Marshal(simulation.Order{Program: *s.Run, After: after})
		if err != nil {
			panic(err)
		}
		effects = append(effects, scripting.Effect{Dispatch: &scripting.Dispatch{ID: id, Context: s.To, Script: s.Run.Script(), Data: data}})
	}
	return effects
}

func callOf(s simulation.Step, j scripting.Job, id string) *scripting.Call {
	tag, err := json.Marshal(simulation.Tag{Then: s.Then, Catch: s.Catch})
	if err != nil {
		panic(err)
	}
	c := &scripting.Call{
		ID: id, Method: "POST", URL: simulation.APIBase + "/" + j.Context + "/" + id, Body: []byte(`{}`), Then: simulation.Then, Tag: tag, Cancelled: s.Cancelled,
	}
	if s.Catch != nil {
		c.Catch = simulation.Catch
	}
	if s.After > 0 {
		c.URL, c.Operation = job.TimerURL(j.Time.Add(s.After)), job.Timer
	}
	return c
}
