package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// patience is how long an answer may take.
const patience = 5 * time.Second

// errDenied says that the server does not permit a request.
var errDenied = errors.New("not permitted")

// asker sends requests, and hears of those that are not permitted: the server does not answer them, but says so on the
// connection.
type asker struct {
	nc       *nats.Conn
	before   nats.ErrHandler
	patience time.Duration // how long ask waits for an answer

	mu    sync.Mutex
	waits map[string]func() // by subject: ends the wait for an answer
	sub   string            // what the server said about a subscription
	subs  chan struct{}     // closed when it did
}

func newAsker(nc *nats.Conn) *asker {
	a := &asker{nc: nc, before: nc.ErrorHandler(), patience: patience, waits: map[string]func(){}, subs: make(chan struct{})}
	nc.SetErrorHandler(a.hear)
	return a
}

// close gives the error handler back.
func (a *asker) close() { a.nc.SetErrorHandler(a.before) }

func (a *asker) hear(nc *nats.Conn, sub *nats.Subscription, err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		if a.before != nil {
			a.before(nc, sub, err)
		}
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	text := err.Error()
	if strings.Contains(text, "for Subscription to") {
		if a.sub == "" {
			a.sub = text
			close(a.subs)
		}
		return
	}
	if _, rest, ok := strings.Cut(text, `for Publish to "`); ok {
		subject, _, _ := strings.Cut(rest, `"`)
		if end := a.waits[subject]; end != nil {
			end()
		}
	}
}

// ask waits for an answer; its error is errDenied when there is none because the request is not permitted. A subject is asked
// once at a time.
func (a *asker) ask(ctx context.Context, subject string, header nats.Header, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	a.mu.Lock()
	a.waits[subject] = func() { end(errDenied) }
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waits, subject)
		a.mu.Unlock()
	}()
	msg, err := a.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: header, Data: body})
	if errors.Is(context.Cause(ctx), errDenied) {
		return nil, errDenied
	}
	return msg, err
}

// settled is how long this process may take to hear what it was sent already.
const settled = 250 * time.Millisecond

// inbox makes sure that answers can reach this client at all. Its error is errDenied when they can't.
func (a *asker) inbox(ctx context.Context) error {
	sub, err := a.nc.SubscribeSync(a.nc.NewInbox())
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	flush, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := a.nc.FlushWithContext(flush); err != nil { // what the server has against it is here before the end of this
		return fmt.Errorf("the server does not answer: %w", err)
	}
	timer := time.NewTimer(settled)
	defer timer.Stop()
	select {
	case <-a.subs:
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("%w: %s", errDenied, a.sub)
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gather collects the answers of all who answer: until quiet has passed without one.
func (a *asker) gather(ctx context.Context, subject string, body []byte, quiet time.Duration) ([]*nats.Msg, error) {
	first, err := a.ask(ctx, subject, nil, body) // says whether it is permitted
	if err != nil {
		return nil, err
	}
	sub, err := a.nc.SubscribeSync(a.nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := a.nc.PublishRequest(subject, sub.Subject, body); err != nil {
		return nil, err
	}
	var all []*nats.Msg
	for {
		wait, cancel := context.WithTimeout(ctx, quiet)
		msg, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			if len(all) == 0 {
				all = append(all, first)
			}
			return all, ctx.Err()
		}
		all = append(all, msg)
	}
}
