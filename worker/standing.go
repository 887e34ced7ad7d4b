package worker

import (
	"context"
	"sync"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// A commit that was acked stands. One that was only read does not need to: a server whose disk is gone, or whose power is about
// to be, shows what it could not store, and is back without it. So nothing leaves a worker on the word of a commit that it has
// only read, no effect and no ack (rule 3). The commit stands once a later one of the same stream was acked over the same
// connection; where there is none, it is written again.

// acked is the last revision of the pool's bucket that was acked to this process. A stream stores in order: what it held before
// that, on the same connection, is stored as well.
type acked struct {
	mu   sync.Mutex
	last stream.Base
}

func (a *acked) add(b stream.Base) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b.Over > a.last.Over || b.Over == a.last.Over && b.Revision > a.last.Revision {
		a.last = b
	}
}

// covers tells whether what was read stands.
func (a *acked) covers(b stream.Base) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return b.Over == 0 || b.Over == a.last.Over && b.Revision <= a.last.Revision
}

// stands tells whether the view's commit does, as far as is known without asking.
func (r *rounds) stands(v view) bool { return r.acked.covers(v.base) }

// prove makes a commit stand that this process has only read: it is written again as it is, and that is acked. It returns
// stream.ErrConflict where the context has another by now.
func (r *rounds) prove(ctx context.Context, name string, v *view) error {
	if r.stands(*v) {
		return nil
	}
	again := v.commit
	again.Version, again.Deed, again.Repeats = job.Version, nil, v.base.Revision
	encoded, err := job.Encode(again)
	if err != nil {
		return err
	}
	revision, err := r.commit(ctx, name, encoded, v.base)
	if err != nil {
		return err
	}
	r.log.Debug("wrote a commit again that was only read", "context", name, "sequence", again.Applied)
	v.commit, v.base, v.size = again, stream.Base{Revision: revision}, len(encoded)
	return nil
}

// standing makes what the performer has read of a context stand, before a call is given up on its word. It returns
// stream.ErrConflict where there is something else to read by now.
func (r *rounds) standing(ctx context.Context, name string, e stream.Entry) error {
	if r.acked.covers(e.Base()) {
		return nil
	}
	v, err := r.viewOf(name, e)
	if err != nil {
		return err
	}
	defer r.views.forget(name) // it may be under way in a lane, which reads it again then
	return r.prove(ctx, name, &v)
}

// left tells whether a commit is to be left to the worker that wrote it, which is about to publish its effects and to ack its job:
// another one, that may still be there.
func (r *rounds) left(v view) bool {
	return !r.stands(v) && v.commit.Report.Worker != r.judge.worker
}
