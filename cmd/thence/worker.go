package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/thence-dev/thence/flows"
	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/worker"
)

// workerFlags are those of every command that runs a worker.
type workerFlags struct {
	pool         string
	scripts      string
	name         string
	file         string
	services     []string
	holdOn       []string
	allowPrivate bool
	secrets      string
	inline       inlineFlags
	dispatch     dispatchFlags
	slots        int
	grace        time.Duration
	http         string
	storage      storageFlags
	bounds       scriptFlags
}

// inlineFlags say what inline source may do: whoever may publish a job may publish source.
type inlineFlags struct {
	off     bool
	secrets bool
}

// dispatchFlags say where scripts may dispatch jobs to.
type dispatchFlags struct {
	pools    []string
	contexts []string
}

// storageFlags say how a pool's streams are made.
type storageFlags struct {
	replicas   int
	maxBytes   int64
	keepBodies time.Duration
}

func (s *storageFlags) register(f *pflag.FlagSet) {
	f.IntVar(&s.replicas, "replicas", 1, "replicas of the pool's streams, if they have to be made (3 in production)")
	f.Int64Var(&s.maxBytes, "max-bytes", 1<<30, "bytes that each of the pool's streams may hold, and its contexts four times that, if they have to be made")
	f.DurationVar(&s.keepBodies, "keep-bodies", 72*time.Hour, "how long bodies that are too large for a job are kept, if their bucket has to be made")
}

func (s *storageFlags) options() stream.Options {
	return stream.Options{Replicas: s.replicas, MaxBytes: s.maxBytes, KeepBodies: s.keepBodies}
}

func (s *storageFlags) check() error {
	if s.replicas < 1 || s.replicas > 5 {
		return fmt.Errorf("--replicas %d: want 1 to 5", s.replicas)
	}
	if s.maxBytes < 1 {
		return fmt.Errorf("--max-bytes %d: want more than 0: a full disk stops the whole server, so streams need a bound", s.maxBytes)
	}
	if s.keepBodies < time.Minute {
		return fmt.Errorf("--keep-bodies %s: want a minute or more", s.keepBodies)
	}
	return nil
}

// register declares the flags. Only in development may inline source use secrets without being told so.
func (w *workerFlags) register(f *pflag.FlagSet, defaultPool string, development bool) {
	f.StringVar(&w.pool, "pool", defaultPool, "name of the worker pool")
	f.StringVar(&w.scripts, "scripts", "", "directory of library scripts (*.tengo), laid over the shipped ones: pushed as a release")
	f.StringVar(&w.name, "name", "", "name of this process in reports and logs (default: host name and a random part)")
	f.StringVar(&w.file, "services", "", "file that declares outside APIs (docs/services.md); it is read again when it changes")
	f.StringArrayVar(&w.services, "service", nil, "outside API as NAME=URL, repeatable; secrets named NAME_... are sent there and nowhere else.\n"+
		"stripe=URL sends Stripe's calls to URL. An API named so may have a private address")
	f.StringArrayVar(&w.holdOn, "hold-on", nil, "script whose failure holds its context until an operator decides, repeatable; '*' for all")
	f.BoolVar(&w.allowPrivate, "allow-private", false, "let http calls reach addresses that are not public")
	f.StringVar(&w.secrets, "secrets", "", "directory of secrets, a file each, as Kubernetes mounts them; asked before the environment (THENCE_SECRET_NAME)")
	f.BoolVar(&w.inline.secrets, "inline-secrets", development, "let jobs that bring their own source call stripe and the APIs of --service with secrets.\nWhoever may publish jobs may then use them")
	f.BoolVar(&w.inline.off, "no-inline", false, "run library scripts only: jobs that bring their own source become dead letters")
	f.StringSliceVar(&w.dispatch.pools, "dispatch-pools", nil, "other pools that scripts may dispatch jobs to; * for all (default none)")
	f.StringSliceVar(&w.dispatch.contexts, "dispatch-contexts", nil, "other contexts that scripts may dispatch jobs to, as patterns such as audit-* (default all)")
	f.IntVar(&w.slots, "slots", 128, "contexts worked on at a time")
	f.DurationVar(&w.grace, "grace", 20*time.Second, "how long work under way may take to end after a signal to stop")
	f.StringVar(&w.http, "http", "", "address for probes and metrics, such as :8080: /healthz, /readyz and /metrics (default none).\n"+
		"There is no authentication, and no job's data")
	w.storage.register(f)
	w.bounds.register(f)
}

func (a *app) worker() *cobra.Command {
	var flags workerFlags
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker of a pool",
		Long: `Run a worker: it takes the pool's jobs and performs their HTTP calls. Any number of workers may share a pool.
The pool's streams are made when they are missing. With --scripts it makes the directory's scripts the pool's current release when it starts,
unless they were that before: a restart does not undo a push or a rollback. All workers run the pool's release, see thence scripts.
SIGTERM lets work under way end and gives the rest to other workers; a second signal ends the process at once, and nothing is lost by it.`,
		Example: `  thence worker --pool payments --scripts ./scripts
  THENCE_SECRET_STRIPE_KEY=sk_test_... thence worker --pool payments --server nats://nats:4222`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := a.logger()
			if err != nil {
				return err
			}
			config, declared, err := a.workerConfig(flags, log)
			if err != nil {
				return err
			}
			shown, err := flags.show(cmd.Context(), &config)
			if err != nil {
				return err
			}
			defer shown.end()
			nc, err := a.connectForEver(cmd.Context(), "worker "+flags.pool, log)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			if err != nil {
				return err
			}
			defer nc.Close()
			return runWorker(cmd.Context(), nc, config, declared, shown)
		},
	}
	flags.register(cmd.Flags(), "", false)
	return cmd
}

func runWorker(ctx context.Context, nc *nats.Conn, config worker.Config, declared declaration, shown *shown) error {
	boundGarbage()
	config.Conn = nc
	w, err := worker.New(config)
	if err != nil {
		return err
	}
	if err := shown.watch(nc, config.Pool, w); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { declared.follow(watching, w, config.Logger) })
	defer watch.Wait()
	defer stop()
	return w.Run(ctx)
}

// workerConfig turns flags into a worker's configuration, all but its connection.
func (a *app) workerConfig(f workerFlags, log *slog.Logger) (worker.Config, declaration, error) {
	if err := f.check(); err != nil {
		return worker.Config{}, declaration{}, usageError{err}
	}
	declared, err := f.declared()
	if err != nil {
		return worker.Config{}, declared, usageError{err}
	}
	library, err := openLibrary(f.scripts)
	if err != nil {
		return worker.Config{}, declared, err
	}
	secrets, err := a.secrets(f.secrets)
	if err != nil {
		return worker.Config{}, declared, err
	}
	config := worker.Config{
		NoInline: f.inline.off, DispatchPools: f.dispatch.pools, DispatchContexts: f.dispatch.contexts, Secrets: secrets,
		Pool: f.pool, Library: library, Shipped: f.scripts == "", Services: declared.all(declared.inFile), Name: f.name, Slots: f.slots, Grace: f.grace, HoldOn: f.holdOn,
		Replicas: f.storage.replicas, MaxBytes: f.storage.maxBytes, KeepBodies: f.storage.keepBodies, Logger: log,
	}
	err = f.bounds.apply(&config)
	return config, declared, err
}

// secrets come from a directory, if there is one, and from the environment.
func (a *app) secrets(dir string) (worker.Secrets, error) {
	env := worker.SecretsFromEnv(a.lookupEnv)
	if dir == "" {
		return env, nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, usageError{fmt.Errorf("--secrets %s: there is no such directory", dir)}
	}
	return worker.FirstOf(worker.SecretsFromDir(dir), env), nil
}

// check finds what is wrong with the flags before anything is connected to.
func (w workerFlags) check() error {
	switch {
	case w.pool == "":
		return errors.New("--pool is missing: which worker pool is this a worker of?")
	case w.slots < 1:
		return fmt.Errorf("--slots %d: want 1 or more", w.slots)
	case w.grace <= 0:
		return fmt.Errorf("--grace %s: want more than 0s", w.grace)
	}
	return errors.Join(job.ValidPool(w.pool), w.storage.check(), w.bounds.check())
}

// openLibrary is the shipped scripts with those of the directory that --scripts names laid over them.
func openLibrary(dir string) (*scripting.Library, error) { return overlay("--scripts "+dir, dir) }

// overlay is the shipped scripts with a directory's laid over them; what says where the directory was named.
func overlay(what, dir string) (*scripting.Library, error) {
	layers := []fs.FS{flows.FS}
	if dir != "" {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil, usageError{fmt.Errorf("%s: there is no such directory", what)}
		}
		layers = append(layers, os.DirFS(dir))
	}
	library, err := scripting.NewLibrary(layers...)
	if err == nil {
		err = library.CheckNames()
	}
	if err != nil {
		return nil, fmt.Errorf("the script library can't be used:\n%w", err)
	}
	return library, nil
}
