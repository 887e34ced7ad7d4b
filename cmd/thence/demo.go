package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/embedded"
	"github.com/thence-dev/thence/internal/stream"
	"github.com/thence-dev/thence/internal/stripefake"
)

// demoTime is how long a demo may take in all.
const demoTime = 60 * time.Second

func (a *app) demo() *cobra.Command {
	var stripe string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch a payment flow run, fail, and survive a worker that is killed",
		Long: `Run a NATS server, two worker processes and a small imitation of Stripe on this machine. A checkout creates a customer, a payment
and a subscription, each by a call whose answer comes back as a new job; the worker that holds one of the calls is killed; another
checkout meets a declined card. With --stripe the same flow runs against Stripe itself, with the test key in
THENCE_SECRET_STRIPE_KEY.`,
		Example: `  thence demo
  THENCE_SECRET_STRIPE_KEY=sk_test_... thence demo --stripe https://api.stripe.com --price price_...`,
		Args: cobra.NoArgs,
	}
	price := cmd.Flags().String("price", "price_monthly", "price of the subscription; with --stripe one that exists there")
	cmd.Flags().StringVar(&stripe, "stripe", "", "send the calls to this URL, in place of the imitation")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), demoTime)
		defer cancel()
		err := a.runDemo(ctx, stripe, *price)
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the demo did not end within %s: %w", demoTime, err)
		}
		return err
	}
	return cmd
}

// demoRun is a demo under way.
type demoRun struct {
	*app
	nc       *nats.Conn
	pool     *stream.Pool
	workers  []*demoWorker
	fake     *stripefake.Server // nil with the real Stripe
	timeline *timeline
}

// demoKey is the imitation's only key.
const demoKey = "sk_test_demo_4eC39HqLyjWDarjtT1zdp7dc"

func (a *app) runDemo(ctx context.Context, stripe, price string) (err error) {
	d := &demoRun{app: a, timeline: newTimeline(a.stdout, a.colour())}
	store, err := os.MkdirTemp("", "thence-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(store)) }()
	server, err := embedded.Start(embedded.Options{Store: store, Listen: "127.0.0.1:0", MaxStore: 16 << 30})
	if err != nil {
		return err
	}
	defer server.Close()
	key := demoKey
	if stripe == "" {
		fake, url, stop, err := serveFake()
		if err != nil {
			return err
		}
		defer stop()
		d.fake, stripe = fake, url
	} else if key, err = a.stripeKey(); err != nil {
		return err
	}
	if d.nc, err = server.Connect(); err != nil {
		return err
	}
	defer d.nc.Close()
	defer func() { err = errors.Join(err, d.stopWorkers()) }()
	if err := d.start(ctx, server.URL(), stripe, key); err != nil {
		return err
	}
	return d.play(ctx, price)
}

func (a *app) stripeKey() (string, error) {
	key, _ := a.lookupEnv("THENCE_SECRET_STRIPE_KEY")
	if key == "" {
		return "", usageError{errors.New("--stripe needs a key in THENCE_SECRET_STRIPE_KEY: a test key, since the demo creates customers and payments")}
	}
	return key, nil
}

// serveFake serves the imitation of Stripe on loopback.
func serveFake() (fake *stripefake.Server, url string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	fake = stripefake.New(stripefake.Options{Key: demoKey})
	web := &http.Server{Handler: fake, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(listener) }() // ends with Close
	return fake, "http://" + listener.Addr().String(), func() { fake.Close(); _ = web.Close() }, nil
}

// start starts the workers, and waits until both are ready.
func (d *demoRun) start(ctx context.Context, nats, stripe, key string) error {
	d.timeline.note("NATS on %s, Stripe on %s, workers worker-a and worker-b", nats, stripe)
	for _, name := range []string{"worker-a", "worker-b"} {
		w, err := startDemoWorker(name, nats, stripe, key)
		if err != nil {
			return err
		}
		d.workers = append(d.workers, w)
	}
	for _, w := range d.workers {
		select {
		case <-w.ready:
		case <-w.ended:
			return fmt.Errorf("%s did not start: %s", w.name, w.lastLine())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	d.pool, err = stream.Open(d.nc, demoPool)
	return err
}

const demoPool = "payments"

// play runs the two flows beside each other, and the kill in the middle of the first.
func (d *demoRun) play(ctx context.Context, price string) error {
	if d.fake != nil {
		d.fake.Fail(stripefake.Operation("create_payment_intent"), stripefake.Hang().AfterExecution())
	}
	good := map[string]any{
		"email": "ada@example.com", "amount": 2000, "currency": "usd", "price": price, "payment_method": "pm_card_visa",
	}
	declined := map[string]any{
		"email": "bob@example.com", "amount": 900, "currency": "usd", "price": price, "payment_method": "pm_card_chargeDeclined",
	}
	d.timeline.head()
	flow, flowing := errgroup.WithContext(ctx)
	flow.Go(func() error { return d.checkout(flowing, "cus_42", "checkout", good) })
	if err := d.killHolder(flowing, "cus_42"); err != nil {
		return errors.Join(err, flow.Wait())
	}
	flow.Go(func() error { return d.takeOver(flowing, "cus_42") })
	flow.Go(func() error { return d.checkout(flowing, "cus_43", "checkout", declined) })
	if err := flow.Wait(); err != nil {
		return err
	}
	return d.sumUp(ctx)
}

// checkout dispatches the first job of a flow, and follows its context until no call is open.
func (d *demoRun) checkout(ctx context.Context, name, script string, data any) error {
	calls, err := dispatcher.New(d.nc, dispatcher.Config{Caller: "demo", Worker: demoPool})
	if err != nil {
		return err
	}
	if _, err := calls.Dispatch(ctx, dispatcher.Job{Context: name, Script: script, Data: data}); err != nil {
		return err
	}
	return d.timeline.follow(ctx, d.pool, name)
}

// killHolder kills the worker that holds the context's call for the payment, once that call is out.
func (d *demoRun) killHolder(ctx context.Context, name string) error {
	sent, err := d.paymentSent(ctx, name)
	if err != nil {
		return err
	}
	if d.fake != nil { // Stripe has carried it out, and its answer is on the way: the worst moment
		if _, err := d.fake.WaitFor(ctx, stripefake.Executed(stripefake.Operation("create_payment_intent")), 1); err != nil {
			return err
		}
	}
	if err := sent.by.kill(); err != nil {
		return err
	}
	d.timeline.event("%s is killed with SIGKILL while Stripe works on call %s", sent.by.name, sent.call)
	return nil
}

// takeOver reports who sends the call again.
func (d *demoRun) takeOver(ctx context.Context, name string) error {
	again, err := d.paymentSent(ctx, name)
	if err == nil {
		d.timeline.event("%s takes call %s over, and sends it again under the same Idempotency-Key", again.by.name, again.call)
	}
	return err
}

// paymentSent waits until a worker sends the second call of a context, which is the one for the payment.
func (d *demoRun) paymentSent(ctx context.Context, name string) (sentCall, error) {
	for {
		var s sentCall
		select {
		case s = <-d.workers[0].sent:
		case s = <-d.workers[1].sent:
		case <-ctx.Done():
			return s, ctx.Err()
		}
		open, err := d.pool.ContextFromLeader(ctx, name)
		if err != nil {
			return s, err
		}
		if s.context == name && operationOf(open.Data, s.call) == "create_payment_intent" {
			return s, nil
		}
	}
}

// sumUp checks that the demo showed what it is meant to show, and says what to try next.
func (d *demoRun) sumUp(ctx context.Context) error {
	for _, name := range []string{"cus_42", "cus_43"} {
		entry, err := d.pool.ContextFromLeader(ctx, name)
		if err != nil {
			return err
		}
		lines, err := stateLines(entry.Data)
		if err != nil {
			return err
		}
		d.printf("\nstate of %s.%s\n%s\n", demoPool, name, strings.Join(lines, "\n"))
	}
	if d.fake != nil {
		asked, requests, err := payments(d.fake.Requests())
		if err != nil {
			return err
		}
		d.printf(`
%d payments were asked for in %d requests, and each was carried out once (the declined one was declined once):
a call that is sent again keeps its Idempotency-Key, by which Stripe knows it.
`, asked, requests)
	}
	d.printf("%s", demoNext)
	return nil
}

// payments counts the payments that were asked for, by their keys, and the requests for them. A payment that was not
// carried out exactly once is an error.
func payments(all []stripefake.Request) (asked, requests int, err error) {
	executed := map[string]int{}
	for _, r := range all {
		if r.Operation != "create_payment_intent" {
			continue
		}
		requests++
		executed[r.IdempotencyKey] += 0
		if r.Executed {
			executed[r.IdempotencyKey]++
		}
	}
	for key, n := range executed {
		if n != 1 {
			err = errors.Join(err, fmt.Errorf("the payment under the key %q was carried out %d times, want once", key, n))
		}
	}
	return len(executed), requests, err
}

const demoNext = `
Try next:
  thence up --pool payments                            a server and a worker of your own
  thence submit payments.cus_1 main.tengo --wait       a script of your own
  thence context history payments.cus_1                what it did
  thence dead list payments                            what could not run, and why
`
