package calls

import (
	"context"
	"net/http"
	"time"
)

// slowDown has the whole pool wait when an API says for how long: other calls, of this worker and of others, would only
// be refused as well. It is a favour to the API and no promise: where it fails, each call waits for itself.
func (p *Performer) slowDown(ctx context.Context, s Service, got result) {
	if got.after <= 0 || p.config.Pause == nil || got.answer.Status != http.StatusTooManyRequests && got.answer.Status != http.StatusServiceUnavailable {
		return
	}
	wait := min(got.after, s.MaxWait)
	changed, err := p.config.Pause(ctx, s.Name, p.now().Add(wait))
	switch {
	case err != nil:
		p.config.Logger.Warn("a service that asks for it can't be paused", "service", s.Name, "error", err)
	case changed:
		p.config.Logger.Warn("service is paused for the whole pool, as it asks for", "service", s.Name, "status", got.answer.Status, "wait", wait.Round(time.Millisecond))
	}
}
