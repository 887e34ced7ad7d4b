package calls

import (
	"context"
	"net/url"
	"reflect"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// serving is a service whose calls are taken, as it was declared when that began. One that is declared anew is served
// anew: the calls under way end as they began.
type serving struct {
	service Service
	client  *client
	taking  Deliveries
	brake   *brake
	pacer   *pacer             // nil: it has no rate
	look    chan struct{}      // holds a token while it is to be learned how the service stands
	end     context.CancelFunc // set once it is begun

	inFlight atomic.Int64
}

// Open makes the services' consumers where they are missing, and opens their deliveries, which Run ends.
func (p *Performer) Open(ctx context.Context) error {
	declared := p.config.Services.Services()
	for _, s := range declared.all {
		opened, err := p.openOne(ctx, s)
		if err != nil {
			p.Close()
			return err
		}
		p.serving[s.Name] = opened
	}
	return nil
}

// Close ends what Open opened, in place of Run.
func (p *Performer) Close() {
	for _, s := range p.serving {
		s.taking.Close()
	}
	clear(p.serving)
}

func (p *Performer) openOne(ctx context.Context, s Service) (*serving, error) {
	taking, err := p.config.Take(ctx, s)
	if err != nil {
		return nil, err
	}
	if p.config.Pacing != nil && !s.limited {
		if err := p.config.Pacing.LimitByRate(ctx, s.Name, s.useful(), usualInFlight); err != nil {
			taking.Close()
			return nil, err
		}
	}
	opened := &serving{
		service: s, taking: taking, brake: newBrake(s.Breaker), pacer: newPacer(s, p.config.Pacing, p.config.Jitter), look: make(chan struct{}, 1),
	}
	opened.client = newClient(s, access{
		secrets: p.config.Secrets, transport: p.config.Transport, bodies: p.config.Bodies, clock: p.config.Clock,
		bound: func(secret string) bool { return p.config.Services.Services().bound(s, secret) },
		reach: func(u *url.URL) bool { _, err := p.config.Services.Services().For(u.String()); return err == nil },
	})
	if p.config.Pacing != nil { // another worker may have slowed it down, and be gone
		if now, err := p.learn(ctx, opened); err != nil || held(&now) {
			opened.lookAgain()
		}
	}
	return opened, nil
}

// begin serves a service until ctx ends, or end is called.
func (p *Performer) begin(ctx, work context.Context, group *errgroup.Group, s *serving) {
	ctx, s.end = context.WithCancel(ctx)
	group.Go(func() error {
		defer s.end()
		return p.serve(ctx, work, s)
	})
	if p.config.Pacing != nil {
		group.Go(func() error { return p.keepLearning(ctx, s) })
	}
}

// follow serves what is declared, as that changes, until ctx ends.
func (p *Performer) follow(ctx, work context.Context, group *errgroup.Group) error {
	for {
		declared, changed := p.config.Services.Now()
		p.insistOnChange(ctx, work, group, declared)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// insistOnChange changes what is served until that succeeds, or ctx ends: NATS may be away.
func (p *Performer) insistOnChange(ctx, work context.Context, group *errgroup.Group, declared Services) {
	for ctx.Err() == nil {
		err := p.change(ctx, work, group, declared)
		if err == nil {
			return
		}
		p.config.Logger.Warn("a service can't be served as it is declared now; trying on", "error", err)
		_ = pause(ctx, time.Second) // its error is that of ctx
	}
}

// change begins to serve what is declared and not served so, and ends what is no longer declared so.
func (p *Performer) change(ctx, work context.Context, group *errgroup.Group, declared Services) error {
	for _, s := range declared.all {
		if now := p.served(s.Name); now != nil && reflect.DeepEqual(now.service, s) {
			continue
		}
		opened, err := p.openOne(ctx, s)
		if err != nil {
			return err
		}
		p.exchange(s.Name, opened)
		p.begin(ctx, work, group, opened)
		p.config.Logger.Info("service is served", "service", s.Name)
	}
	for _, name := range p.servedNames() {
		if !declared.Has(name) {
			p.exchange(name, nil)
			p.config.Logger.Info("service is served no longer: its calls wait", "service", name)
		}
	}
	return nil
}

func (p *Performer) served(name string) *serving {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serving[name]
}

func (p *Performer) servedNames() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.serving {
		names = append(names, name)
	}
	return names
}

// exchange puts another serving of a service in place of the one that there is, or none, and ends that.
func (p *Performer) exchange(name string, by *serving) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.serving[name]; old != nil {
		old.end()
	}
	delete(p.serving, name)
	if by != nil {
		p.serving[name] = by
	}
}

// shortest is the shortest ack wait: operators may tune it.
func (p *Performer) shortest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var wait time.Duration
	for _, s := range p.serving {
		if w := s.taking.AckWait(); wait == 0 || w < wait {
			wait = w
		}
	}
	if wait == 0 { // no service is served
		return time.Second
	}
	return wait
}
