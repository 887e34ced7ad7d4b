// Package worker runs a pool's jobs: it takes each from the stream, runs its script, and stores the whole outcome in
// one message before any of it is seen outside.
//
// One job is one transaction. A worker that is handed any job of a context reads the first job of that context which
// has not taken effect, runs it on the context's state, and commits state, effects and report in one write that lands
// only if nobody else changed the context meanwhile. Then it publishes the effects (calls and jobs), each under an id
// that is the same however often it is published, and acks the job last. So a worker may be killed at any point:
// another one finds the stored outcome and goes on from there, or finds none and runs the job as if for the first time.
// Any number of workers may share a pool; there are no locks and no leases.
//
// [New] makes a worker, [Worker.Run] runs it until its context ends. The same process performs the pool's HTTP calls:
// see package calls.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/internal/crash"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox"
	"github.com/thence-dev/thence/worker/calls"
)

// Config says what a worker runs. Conn and Pool must be given; the zero value of every other field takes its
// default.
type Config struct {
	Conn *nats.Conn // the caller's, who closes it after Run; should reconnect for ever
	Pool string     // name of the worker pool: a-z A-Z 0-9 _ -, at most 32

	// Library are named scripts that jobs may run. When the worker starts they become the pool's current release, unless
	// they were that before and others are by now: see [Adopt]. The worker runs what the pool has, and follows it; so a
	// nil Library is fine where the pool has a release.
	Library *scripting.Library
	Shipped bool // Library has only the scripts that come with Thence: they make way for any that were pushed

	Runner     scripting.Runner // runs the scripts; default: a sandbox that Run starts and ends, see package sandbox
	Sandbox    sandbox.Options  // of the default Runner
	Limits     scripting.Limits // of one run
	Services   []Service        // outside APIs, beside the built-in stripe and default
	Secrets    Secrets          // default: the variable THENCE_SECRET_<NAME>, name in upper case
	Name       string           // of this process, in reports and logs; default: host name and a random part
	Slots      int              // contexts worked on at a time; default 128
	Grace      time.Duration    // how long work under way may take to end after Run's ctx did; default 20s
	Replicas   int              // of the pool's streams, when Run has to make them; default 1
	MaxBytes   int64            // of each of the pool's streams, and a quarter of its contexts', likewise; default 1 GiB
	KeepBodies time.Duration    // how long bodies that are too large for a job are kept, likewise; default 72h
	HoldOn     []string         // scripts whose failure holds their context until an operator decides; "*": all; default none
	Observer   Observer         // hears of jobs, commits and calls as they happen; default: nobody does
	Logger     *slog.Logger     // default: slog.Default()
	Clock      Clock            // of timers, deadlines and time-outs; default: the machine's

	// What scripts may do, the same for all workers of a pool. A job that asks for more is a dead letter.
	NoInline         bool     // jobs run library scripts only: whoever may publish a job may otherwise publish source
	DispatchPools    []string // other pools that scripts may dispatch jobs to; "*": all; default none
	DispatchContexts []string // other contexts that they may dispatch to, as path.Match patterns: "audit-*"; default all
}

// Secrets finds a secret's value by its name, each time that one is to be sent.
type Secrets = calls.Secrets

// Service is an outside API; see the fields in package calls.
type Service = calls.Service

// Clock is what timers, deadlines and time-outs go by; see package calls. Package thencetest has one that a test can turn.
type Clock = calls.Clock

// SecretsFromEnv finds secrets by a look-up of environment variables such as os.LookupEnv: the secret stripe_key is the
// variable THENCE_SECRET_STRIPE_KEY.
func SecretsFromEnv(lookup func(string) (string, bool)) Secrets { return calls.SecretsFromEnv(lookup) }

// SecretsFromDir finds a secret in the file of its name, as Kubernetes mounts them. A file that changes counts from the
// next try of a call on.
func SecretsFromDir(dir string) Secrets { return calls.SecretsFromDir(dir) }

// FirstOf asks several in turn, and takes the first answer.
func FirstOf(all ...Secrets) Secrets { return calls.FirstOf(all...) }

func (c Config) withDefaults() Config {
	if c.Secrets == nil {
		c.Secrets = SecretsFromEnv(os.LookupEnv)
	}
	if c.Name == "" {
		host, _ := os.Hostname()
		c.Name = host + "-" + uuid.NewString()[:8]
	}
	if c.Slots == 0 {
		c.Slots = 128
	}
	if c.Grace == 0 {
		c.Grace = 20 * time.Second
	}
	if c.Observer == nil {
		c.Observer = silent{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Clock == nil {
		c.Clock = calls.MachineClock{}
	}
	c.Logger = c.Logger.With("pool", c.Pool, "worker", c.Name)
	return c
}

func (c Config) validate() error {
	var problems []error
	if c.Conn == nil {
		problems = append(problems, errors.New("config: Conn is nil"))
	}
	if err := job.ValidPool(c.Pool); err != nil {
		problems = append(problems, fmt.Errorf("config: Pool: %w", err))
	}
	if c.Slots < 0 || c.Grace < 0 || c.Replicas < 0 || c.MaxBytes < 0 || c.KeepBodies < 0 {
		problems = append(problems, errors.New("config: Slots, Grace, Replicas, MaxBytes and KeepBodies can't be negative"))
	}
	for _, pattern := range c.DispatchContexts {
		if _, err := path.Match(pattern, ""); err != nil {
			problems = append(problems, fmt.Errorf("config: DispatchContexts: %q is no pattern", pattern))
		}
	}
	return errors.Join(problems...)
}

// Worker runs a pool's jobs. Its methods are safe for concurrent use, Run being called once.
type Worker struct {
	config   Config
	services *calls.Declared
	current  func(*scripting.Library) error // tells the runner of the pool's current library
	stats    stats
	ready    chan struct{}
}

// New checks the configuration and makes a worker. It connects to nothing.
func New(c Config) (*Worker, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	services, err := calls.NewServices(c.Services...)
	if err != nil {
		return nil, err
	}
	return &Worker{config: c.withDefaults(), services: calls.Declare(services), ready: make(chan struct{}),
		current: func(*scripting.Library) error { return nil }}, nil
}

// Declare puts other services in the place of those that the worker was made with, while it runs: the built-in ones and
// these. Calls under way end as they began; those of a service that is no longer there wait until it is again. An error
// says what is wrong with them, and leaves all as it was.
func (w *Worker) Declare(services ...Service) error {
	all, err := calls.NewServices(services...)
	if err != nil {
		return err
	}
	w.services.Change(all)
	return nil
}

// Run makes the pool's streams where they are missing and works until ctx ends; it then takes no more, lets what runs
// end within the grace period, gives the rest back to other workers at once, and returns nil. It returns an error when
// the pool's streams can't be made or don't fit, when the connection is closed, and when something is wrong that no
// retry can mend. While NATS is away it waits.
func (w *Worker) Run(ctx context.Context) error {
	err := w.run(ctx)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = nil // told to stop before all was set up
	}
	w.config.Logger.Info("worker has stopped", "jobs", w.Stats().Jobs)
	return err
}

func (w *Worker) run(ctx context.Context) error {
	end, err := w.startRunner()
	if err != nil {
		return err
	}
	defer end()
	c := w.config
	set, err := w.setUp(ctx)
	for said := ""; err != nil && w.unreachable(err) && ctx.Err() == nil; set, err = w.setUp(ctx) {
		if said != err.Error() {
			said = err.Error()
			c.Logger.Warn("the pool can't be set up yet; trying on", "error", err)
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	now := set.releases.current.Load()
	c.Logger.Info("worker is ready", "server", c.Conn.ConnectedServerVersion(), "release", now.Release(), "scripts", len(now.Names()))
	return w.work(ctx, set)
}

// startRunner starts the sandbox that scripts run in, unless the program brought a runner of its own.
func (w *Worker) startRunner() (end func(), err error) {
	if w.config.Runner != nil {
		return func() {}, nil
	}
	o := w.config.Sandbox
	if o.Logger == nil {
		o.Logger = w.config.Logger
	}
	s, err := sandbox.New(w.config.Library, o)
	if err != nil {
		return nil, fmt.Errorf("scripts can't be run safely: %w", err)
	}
	w.config.Runner, w.current = s, s.Use
	w.config.Logger.Info("scripts run in child processes", "layers", s.Layers().String())
	return func() {
		if err := s.Close(); err != nil {
			w.config.Logger.Warn("the sandbox did not end well", "error", err)
		}
	}, nil
}

// work takes jobs and calls until ctx ends.
func (w *Worker) work(ctx context.Context, s setup) error {
	close(w.ready)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.performer.Run(ctx) })
	group.Go(func() error { return w.takeJobs(ctx, s.rounds, s.jobs) })
	if s.answer != nil {
		group.Go(func() error { return s.answer(ctx) })
	}
	group.Go(func() error { return s.releases.follow(ctx) })
	return group.Wait()
}

// unreachable tells that an error may be gone once NATS is back.
func (w *Worker) unreachable(err error) bool {
	return !w.config.Conn.IsConnected() && !w.config.Conn.IsClosed() || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, context.DeadlineExceeded)
}

// setup is what a worker needs before it can begin.
type setup struct {
	rounds    *rounds
	performer *calls.Performer
	jobs      deliveries
	answer    func(context.Context) error // answers who asks about services, until the context ends; nil: nobody does
	releases  *releases
}

// deliveries hands out the pool's jobs. *stream.Deliveries is one.
type deliveries interface {
	Next() (*stream.Delivery, error)
	AckWait() time.Duration
	Stop()
}

// setUp makes or finds the pool's streams, and opens the deliveries of its calls and jobs.
func (w *Worker) setUp(ctx context.Context) (s setup, err error) {
	c := w.config
	options := stream.Options{Replicas: c.Replicas, MaxBytes: c.MaxBytes, KeepBodies: c.KeepBodies, Services: w.services.Services().InFlight()}
	pool, err := stream.Ensure(ctx, c.Conn, c.Pool, options)
	if err != nil {
		return s, err
	}
	keys, err := pool.Keys(ctx, options)
	if err != nil {
		return s, err
	}
	if s.releases, err = w.adopt(ctx, pool); err != nil {
		return s, err
	}
	s.rounds = w.rounds(pool, keys, s.releases)
	performing := w.performing(pool, s.rounds, keys, func(ctx context.Context, s Service) (calls.Deliveries, error) {
		if s.Limited() {
			if err := pool.LimitCalls(ctx, s.Name, s.MaxInFlight); err != nil {
				return nil, err
			}
		}
		return pool.Calls(ctx, s.Name, s.MaxInFlight, calls.Batch)
	})
	performing.Pacing, performing.Bodies = pool, pool
	s.performer = calls.New(performing)
	if err := s.performer.Open(ctx); err != nil {
		return s, err
	}
	s.answer = func(ctx context.Context) error {
		return pool.AnswerAsked(ctx, func() stream.WorkerServices {
			return stream.WorkerServices{Worker: c.Name, Services: s.performer.Use()}
		})
	}
	if s.jobs, err = pool.Jobs(ctx, batch); err != nil {
		s.performer.Close()
	}
	return s, err
}

// adopt finds what the pool runs, having made it this worker's own scripts where that is right.
func (w *Worker) adopt(ctx context.Context, pool *stream.Pool) (*releases, error) {
	c := w.config
	now, err := Adopt(ctx, pool, c.Library, c.Shipped, c.Name, c.Logger)
	if err != nil {
		return nil, err
	}
	r := newReleases(pool, c.Logger, w.current, c.Library)
	r.turned = now.Revision
	l := c.Library
	if l == nil || l.Release() != now.Name {
		if l, err = r.load(ctx, now.Name); err != nil {
			return nil, err
		}
	}
	r.current.Store(l)
	err = r.use(l)
	return r, err
}

func (w *Worker) performing(streams calls.Streams, r *rounds, keys job.Keyring, take func(context.Context, Service) (calls.Deliveries, error)) calls.Config {
	c := w.config
	return calls.Config{Streams: streams, Take: take, Stands: r.standing, Keys: keys, Services: w.services, Secrets: c.Secrets, Grace: c.Grace,
		Observer: c.Observer, Logger: c.Logger, Clock: c.Clock}
}

// Ready is closed once Run takes jobs: the pool's streams are there by then.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// Stats returns what the worker has done so far.
func (w *Worker) Stats() Stats { return w.stats.read() }

// batch is how many deliveries are asked for ahead.
const batch = 256

func (w *Worker) rounds(streams journal, keys job.Keyring, scripts libraries) *rounds {
	c := w.config
	return &rounds{
		pool: c.Pool, log: c.Logger, stream: streams, views: newViews(64 << 20), stats: &w.stats, observer: c.Observer,
		pause: pause, jitter: rand.N[time.Duration], patience: leaveFor(c.Limits),
		judge: &judge{
			worker: c.Name, keys: keys, services: w.services, runner: c.Runner, limits: c.Limits, libraries: scripts,
			poolExists: streams.PoolExists, maxCommit: streams.MaxPayload() - 4<<10, holdOn: c.HoldOn, now: time.Now, clock: c.Clock,
			allow: allowed{!c.NoInline, c.DispatchPools, c.DispatchContexts},
		},
		outbox: &outbox{stream: streams, keys: keys, worker: c.Name, log: c.Logger, now: time.Now, clock: c.Clock, pause: pause, givesUp: 10 * time.Minute,
			overBound: patienceWhenFull, maxLetter: streams.MaxPayload() - 4<<10},
	}
}

// leaveFor is how long a job under suspicion is left to a worker that began it: longer than its script may run.
func leaveFor(l scripting.Limits) time.Duration { return max(6*time.Second, 2*l.Time) }

// takeJobs feeds deliveries to lanes until ctx ends. Stopping has two contexts: ctx ends the taking, work ends what
// still runs when the grace period is over.
func (w *Worker) takeJobs(ctx context.Context, r *rounds, jobs deliveries) error {
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	in := newIntake(r, w.config.Slots, jobs.AckWait())
	renewing, stopRenewing := context.WithCancel(work)
	var background errgroup.Group
	background.Go(func() error { in.renew(renewing); return nil })
	background.Go(func() error { in.ack(); return nil })
	background.Go(func() error { return w.stopOn(ctx, in, jobs, cut) })
	err := take(work, in, jobs)
	in.halt(err)
	in.wg.Wait()
	close(in.acks)
	cut()
	stopRenewing()
	_ = background.Wait()
	return in.fatal
}

// stopOn ends the taking when ctx does, or a lane meets what no retry can mend, and cuts what runs when the grace
// period is over.
func (w *Worker) stopOn(ctx context.Context, in *intake, jobs deliveries, cut context.CancelFunc) error {
	select {
	case <-ctx.Done():
		w.config.Logger.Info("worker is stopping", "grace", w.config.Grace)
		in.halt(nil)
	case <-in.halted:
	}
	jobs.Stop()
	grace := time.AfterFunc(w.config.Grace, cut)
	in.wg.Wait()
	grace.Stop()
	return nil
}

// take hands every delivery to its lane until the deliveries are stopped.
func take(ctx context.Context, in *intake, jobs deliveries) error {
	for {
		d, err := jobs.Next()
		if errors.Is(err, stream.ErrStopped) && in.stopping() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("take jobs: %w", err)
		}
		crash.Here(crash.JobTaken)
		in.add(ctx, d)
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
