package calls

import (
	"context"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// builtIn tells whether a service is one of those that send nothing: Body, which reads stored bodies, and the service of
// timers. Their URLs have their name as the scheme.
func builtIn(name string) bool { return name == Body || name == job.Timer }

// clocksDiffer is how far the server's clock may be ahead of a worker's.
const clocksDiffer = 2 * time.Second

// fire answers a timer, which is open. One that is not due by far was put here by a worker of an earlier version, which knew it
// for a call: it goes onto the server's timer.
func (p *Performer) fire(ctx context.Context, a job.Address, call job.Call) error {
	due, err := job.ParseTimerURL(call.Request.URL)
	if err != nil {
		return p.answer(ctx, a, call, failed(job.FailureRejected, false, err.Error()).answer)
	}
	ahead := p.config.Clock.Ahead()
	if due.Sub(p.now().Add(ahead)) > clocksDiffer {
		if fits, err := p.later(ctx, a, call, due.Add(-ahead)); fits || err != nil {
			return err
		}
	}
	ans := job.Answer{Body: call.Request.Body}
	if len(ans.Body) > 0 {
		ans.Header = map[string]string{"Content-Type": job.TypeJSON}
	}
	return p.answer(ctx, a, call, ans)
}
