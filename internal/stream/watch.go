package stream

import (
	"context"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/job"
)

// pauseAdvisories is where the server tells that a consumer's pause began, changed or ended.
const pauseAdvisories = "$JS.EVENT.ADVISORY.CONSUMER.PAUSE."

// WatchCalls tells which service's calls were paused or go on again, as the server says so, until ctx ends. With an empty
// name it tells that what the server said before is lost: as it begins, and when the connection is back. told is called by
// one goroutine, this one.
func (p *Pool) WatchCalls(ctx context.Context, told func(service string)) error {
	advisories := make(chan *nats.Msg, 64)
	sub, err := p.nc.ChanSubscribe(pauseAdvisories+job.CallsStream(p.Name)+".*", advisories)
	if err != nil {
		return fmt.Errorf("listen for pauses of pool %s: %w", p.Name, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is closed, and then the subscription is too
	back := p.nc.StatusChanged(nats.CONNECTED)
	defer p.nc.RemoveStatusListener(back)
	told("")
	for {
		select {
		case m := <-advisories:
			name := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
			if service, ok := strings.CutPrefix(name, callsConsumer); ok {
				told(service)
			}
		case _, open := <-back:
			if !open {
				back = nil
				continue
			}
			told("")
		case <-ctx.Done():
			return nil
		}
	}
}
