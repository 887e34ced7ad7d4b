package calls

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// open asks the context's leader whether the call still waits for its answer (rule 11). An answer that is older than
// the commit which opened the call is no answer: it is asked again. That it waits no more is said by a commit that stands: the
// call's message is acked on its word, and nobody would have the call if the server came back without it.
func (p *Performer) open(ctx context.Context, a job.Address, call *job.Call) (bool, error) {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		look := p.looks.ask(ctx, p.config.Streams, a.Context)
		if look.read && look.entry.Revision >= call.Revision {
			if _, open := look.calls[call.ID]; open || look.err != nil || look.entry.Data == nil { // an operator deleted it
				return open, look.err
			}
			if err := p.config.Stands(ctx, a.Context, look.entry); !errors.Is(err, stream.ErrConflict) {
				return false, err
			}
		}
		if err := pause(ctx, wait); err != nil {
			return false, err
		}
	}
}

// looks are reads of contexts that are under way, or about to be. Calls of one context that ask at the same time share
// them: a thousand calls that a job has made would each read the whole context, state and all. Whoever asks is answered by
// a read that begins after that, never by one that is under way.
type looks struct {
	mu    sync.Mutex
	under map[string]*look // by context
	next  map[string]*look // what begins once the one under way has ended
}

// look is what a read of a context has found. done is closed when the rest is there.
type look struct {
	done  chan struct{}
	read  bool // a server has answered
	entry stream.Entry
	calls map[string]struct{} // that are open
	err   error               // the context can't be understood
}

func newLooks() *looks { return &looks{under: map[string]*look{}, next: map[string]*look{}} }

// ask returns what a read has found that began after ask was called, or a look without a read.
func (l *looks) ask(ctx context.Context, streams Streams, name string) *look {
	l.mu.Lock()
	one, before := l.next[name], l.under[name]
	shared := one != nil
	if !shared {
		one = &look{done: make(chan struct{})}
		l.next[name] = one
	}
	l.mu.Unlock()
	if shared {
		if !await(ctx, one) {
			return &look{}
		}
		return one
	}
	if before == nil || await(ctx, before) {
		l.begin(name, one)
		one.ask(ctx, streams, name)
	}
	l.end(name, one)
	return one
}

// await waits for a look to end, and tells whether it has before ctx did.
func await(ctx context.Context, l *look) bool {
	select {
	case <-l.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// begin is called before a read begins: who asks from then on waits for the next.
func (l *looks) begin(name string, one *look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.next, name)
	l.under[name] = one
}

// end hands out what was found, also where nothing was read.
func (l *looks) end(name string, one *look) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, of := range []map[string]*look{l.next, l.under} {
		if of[name] == one {
			delete(of, name)
		}
	}
	close(one.done)
}

// ask reads the context from its leader. Of the commit it decodes no more than its open calls. One that was deleted by an operator
// has none.
func (l *look) ask(ctx context.Context, streams Streams, name string) {
	entry, err := streams.ContextFromLeader(ctx, name)
	if err != nil {
		return
	}
	l.read, l.entry = true, entry
	if entry.Data == nil {
		return
	}
	var c struct {
		Version int                 `json:"v"`
		Calls   map[string]struct{} `json:"calls"`
	}
	if err := json.Unmarshal(entry.Data, &c); err != nil || c.Version != job.Version {
		_, l.err = job.DecodeCommit(entry.Data) // its error says what is wrong
	}
	l.calls = c.Calls
}
