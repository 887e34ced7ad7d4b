package calls

import (
	"context"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// builtIn tells whether a service is one of those that send nothing: Body, which reads stored bodies, and the service of
// timers. Their URLs have their name as the scheme.
func builtIn(name string) bool { return name == Body || name == job.Timer }

// earlyBy is how long before it is due a timer may be put where calls wait.
const earlyBy = 2 * time.Second

// fire answers a timer, which is open. One that came long before it was due, by the server's clock, was put here by a worker of an
// earlier version, which knew it for a call: it goes onto the server's timer.
func (p *Performer) fire(ctx context.Context, a job.Address, call job.Call, came time.Time) error {
	due, err := job.ParseTimerURL(call.Request.URL)
	if err != nil {
		return p.answer(ctx, a, call, failed(job.FailureRejected, false, err.Error()).answer)
	}
	ahead := p.config.Clock.Ahead()
	if due.Sub(came.Add(ahead)) > earlyBy {
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
