package thencetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing/fstest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/flows"
	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

// Config says what a pool of a test has. The zero value has the shipped scripts and Stripe.
type Config struct {
	Scripts  fs.FS                // .tengo files, laid over the shipped scripts
	Services []*Service           // that scripts may call, beside Stripe
	Secrets  map[string]string    // default of those that are not here: "test_" and the name
	Worker   func(*worker.Config) // changes what the worker runs with; it may be nil
	Wait     time.Duration        // the longest that a flow may take; default one minute
	Logger   *slog.Logger         // the worker's; default: nothing is logged
}

// poolName is that of every test's pool.
const poolName = "test"

// Scripts is a library in a test's own source, by the scripts' names.
func Scripts(sources map[string]string) fs.FS {
	files := fstest.MapFS{}
	for name, source := range sources {
		files[name+".tengo"] = &fstest.MapFile{Data: []byte(source)}
	}
	return files
}

// Pool is a worker pool named test, with a server and a worker of its own.
type Pool struct {
	t          TB
	wait       time.Duration
	clock      *clock
	services   []*Service
	foreign    bool // Config.Worker has added services, of whose requests nothing is known
	conn       *nats.Conn
	dispatcher *dispatcher.Dispatcher
	stream     *stream.Pool
}

// Start starts a server, a pool and a worker, and returns once the worker takes jobs. They end with the test.
func Start(t TB, c Config) *Pool {
	t.Helper()
	p := &Pool{t: t, wait: c.Wait, clock: &clock{tries: map[*try]struct{}{}}}
	if p.wait == 0 {
		p.wait = time.Minute
	}
	server, err := embedded.Start(embedded.Options{Store: t.TempDir(), MaxStore: 8 << 30})
	p.must(err)
	t.Cleanup(server.Close)
	p.conn, err = server.Connect()
	p.must(err)
	t.Cleanup(p.conn.Close)
	w, err := worker.New(p.config(c))
	p.must(err)
	p.run(w)
	p.stream, err = stream.Open(p.conn, poolName)
	p.must(err)
	p.dispatcher, err = dispatcher.New(p.conn, dispatcher.Config{Caller: "test", Worker: poolName})
	p.must(err)
	return p
}

func (p *Pool) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("thencetest: %v", err)
	}
}

// config is what the worker runs with.
func (p *Pool) config(c Config) worker.Config {
	p.t.Helper()
	library, err := libraryOf(c.Scripts)
	p.must(err)
	wc := worker.Config{
		Conn: p.conn, Pool: poolName, Library: library, Runner: scripting.NewEngine(library), Name: "test",
		MaxBytes: 64 << 20, Logger: c.Logger, Clock: p.clock, DispatchPools: []string{"*"}, Services: p.declare(c.Services),
		Secrets: func(name string) (string, bool) {
			if value, ok := c.Secrets[name]; ok {
				return value, true
			}
			return "test_" + name, true
		},
	}
	if wc.Logger == nil {
		wc.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Worker != nil {
		c.Worker(&wc)
	}
	p.foreign = slices.ContainsFunc(wc.Services, p.isForeign)
	return wc
}

// isForeign tells whether a service is called that is none of the test's.
func (p *Pool) isForeign(s worker.Service) bool {
	return !s.Off && !slices.ContainsFunc(p.services, func(own *Service) bool { return own.Config.Endpoint == s.Endpoint })
}

// declare returns the services of the test, and those that keep it from calling others.
func (p *Pool) declare(given []*Service) []worker.Service {
	p.t.Helper()
	has := func(name string) bool {
		return slices.ContainsFunc(given, func(s *Service) bool { return s.Config.Name == name })
	}
	p.services = slices.Clone(given)
	if !has("stripe") {
		p.services = append(p.services, NewStripe(p.t))
	}
	var all []worker.Service
	for _, s := range p.services {
		all = append(all, s.Config)
	}
	if !has("default") {
		all = append(all, worker.Service{Name: "default", Off: true})
	}
	return all
}

// run runs the worker until the test ends.
func (p *Pool) run(w *worker.Worker) {
	p.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(p.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	select {
	case <-w.Ready():
	case err := <-ended:
		stop()
		p.t.Fatalf("thencetest: the worker does not start: %v", err)
	}
	p.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			p.t.Errorf("thencetest: the worker has failed: %v", err)
		}
	})
}

// shipped is the library of those who bring no scripts.
var shipped = sync.OnceValues(func() (*scripting.Library, error) { return scripting.NewLibrary(flows.FS) })

// libraryOf is the shipped scripts with others laid over them.
func libraryOf(scripts fs.FS) (*scripting.Library, error) {
	if scripts == nil {
		return shipped()
	}
	if _, err := fs.Stat(scripts, "."); err != nil {
		return nil, fmt.Errorf("the field Scripts can't be read: %w (a test runs in the folder of its package: is the path right from there?)", err)
	}
	return scripting.NewLibrary(flows.FS, scripts)
}

// Conn is a connection to the server, to publish jobs as others do, on the subject test.<context>. The pool closes it.
func (p *Pool) Conn() *nats.Conn { return p.conn }

// Run runs a library script in a context, and returns the whole flow once it has ended. It fails the test when a job of
// the flow becomes a dead letter, and ends it when the flow does not end in time.
func (p *Pool) Run(context, script string, data any) *Flow {
	p.t.Helper()
	flow := p.Await(p.Dispatch(dispatcher.Job{Context: context, Script: script, Data: data}))
	if flow.Err != nil {
		p.t.Errorf("%v", flow.Err)
	}
	return flow
}

// Dispatch dispatches a job, and ends the test when it is not accepted.
func (p *Pool) Dispatch(j dispatcher.Job) dispatcher.Receipt {
	p.t.Helper()
	receipt, err := p.dispatcher.Dispatch(p.t.Context(), j)
	p.must(err)
	return receipt
}

// Await returns the flow that a job began once it has ended. It ends the test when the flow does not end in time.
func (p *Pool) Await(r dispatcher.Receipt) *Flow {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), p.wait)
	defer cancel()
	f := &Flow{t: p.t}
	var err error
	if f.Flow, err = p.dispatcher.AwaitFlow(ctx, r, nil); !errors.As(err, &f.Err) {
		p.must(err)
	}
	return f
}

// State decodes the state of a context, any that jobs were dispatched to.
func (p *Pool) State(context string, into any) {
	p.t.Helper()
	entry, err := p.stream.ContextFromLeader(p.t.Context(), context)
	p.must(err)
	if entry.Data == nil {
		p.t.Fatalf("thencetest: no job of context %s has taken effect", context)
	}
	commit, err := job.DecodeCommit(entry.Data)
	p.must(err)
	p.must(json.Unmarshal(commit.State, into))
}

// Flow is a flow that has ended.
type Flow struct {
	dispatcher.Flow
	Err *dispatcher.JobError // of the first job that became a dead letter; nil: none did

	t TB
}

// WantState fails the test unless the context's state is this JSON.
func (f *Flow) WantState(want string) {
	f.t.Helper()
	wantJSON(f.t, "state", f.State, want)
}

// WantResult fails the test unless this JSON is what the last job that gave a result gave.
func (f *Flow) WantResult(want string) {
	f.t.Helper()
	wantJSON(f.t, "result", f.Result(), want)
}

// WantJobs fails the test unless the flow's jobs ran these scripts, in this order.
func (f *Flow) WantJobs(scripts ...string) {
	f.t.Helper()
	var ran []string
	for _, r := range f.Jobs {
		ran = append(ran, r.Script)
	}
	if !slices.Equal(ran, scripts) {
		f.t.Errorf("the flow ran %s, want %s", strings.Join(ran, ", "), strings.Join(scripts, ", "))
	}
}
