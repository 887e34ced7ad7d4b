package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/thence-dev/thence/internal/stream"
)

// serviceNow is a service as the server and the pool's workers have it together.
type serviceNow struct {
	stream.ServiceState
	Rate        string    `json:"rate,omitempty"` // as workers have it declared; several, where they have several
	Workers     int       `json:"workers"`        // that call it, and answered
	AwaitSlot   int       `json:"await_slot"`
	Seconds     int       `json:"seconds,omitempty"` // how far back tries and failed count
	Tries       int       `json:"tries"`
	Failed      int       `json:"failed"`
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// showServices prints how a pool's services stand, or one of them. Workers are asked once.
func (a *app) showServices(ctx context.Context, pool, service string) error {
	return a.withPool(pool, func(p *stream.Pool) error {
		all, err := servicesNow(ctx, p, service)
		if err != nil {
			return err
		}
		if a.json && service != "" {
			return a.printJSON(all[0])
		}
		if a.json {
			return a.printJSON(all)
		}
		for i, s := range all {
			if i > 0 {
				a.printf("\n")
			}
			a.printService(s)
		}
		if len(all) > 0 && all[0].Workers == 0 {
			a.notef("No worker has answered: what only workers know is missing. Does one run, and may this user ask it (subjects.md)?\n")
		}
		return nil
	})
}

func servicesNow(ctx context.Context, p *stream.Pool, service string) ([]serviceNow, error) {
	var states []stream.ServiceState
	if service == "" {
		all, err := p.Services(ctx)
		if err != nil {
			return nil, err
		}
		states = all
	} else {
		one, err := p.Service(ctx, service)
		if err != nil {
			return nil, err
		}
		states = []stream.ServiceState{one}
	}
	workers, err := p.AskWorkers(ctx)
	if err != nil {
		return nil, err
	}
	var all []serviceNow
	for _, s := range states {
		now := serviceNow{ServiceState: s}
		for _, w := range workers {
			now.add(w.Services)
		}
		all = append(all, now)
	}
	return all, nil
}

// add adds what a worker knows.
func (s *serviceNow) add(uses []stream.ServiceUse) {
	i := slices.IndexFunc(uses, func(u stream.ServiceUse) bool { return u.Service == s.Service })
	if i < 0 {
		return
	}
	u := uses[i]
	switch s.Workers++; {
	case s.Workers == 1:
		s.Rate = u.Rate
	case s.Rate != u.Rate: // they have different files
		s.Rate = cmp.Or(s.Rate, "none") + " and " + cmp.Or(u.Rate, "none")
	}
	s.AwaitSlot, s.Tries, s.Failed, s.Seconds = s.AwaitSlot+u.AwaitSlot, s.Tries+u.Tries, s.Failed+u.Failed, max(s.Seconds, u.Seconds)
	if u.LastErrorAt.After(s.LastErrorAt) {
		s.LastError, s.LastErrorAt = u.LastError, u.LastErrorAt
	}
}

func (a *app) printService(s serviceNow) {
	line := func(name, format string, args ...any) {
		a.printf("  %-13s %s\n", name, plain(fmt.Sprintf(format, args...)))
	}
	a.printf("%s\n", plain(s.Service))
	inFlight := strconv.Itoa(s.InFlight)
	if s.Rate != "" {
		inFlight += fmt.Sprintf(", %d of them wait for their slot", s.AwaitSlot)
	}
	line("in flight", "%s", inFlight)
	line("waiting", "%d", s.Waiting)
	line("limit", "%s", limitOf(s.ServiceState))
	line("rate", "%s", cmp.Or(s.Rate, "-"))
	line("paused until", "%s", pausedUntil(s.ServiceState))
	line("breaker", "%s", breakerOf(s.ServiceState))
	line("tries", "%s", s.tries())
	if s.LastError != "" {
		line("last error", "%s, at %s", s.LastError, s.LastErrorAt.UTC().Format(time.RFC3339))
	} else if s.Slowdown != nil && s.Slowdown.Error != "" {
		line("last error", "%s", s.Slowdown.Error)
	}
	line("workers", "%d", s.Workers)
}

func (s serviceNow) tries() string {
	if s.Tries == 0 {
		return "-"
	}
	return fmt.Sprintf("%d in the last %ds, %d failed (%.0f%%)", s.Tries, s.Seconds, s.Failed, 100*float64(s.Failed)/float64(s.Tries))
}

// limitOf is how many calls may be in flight, and how many may be without the slowdown.
func limitOf(s stream.ServiceState) string {
	if s.Limit == s.MaxInFlight {
		return strconv.Itoa(s.Limit)
	}
	return fmt.Sprintf("%d of %d", s.Limit, s.MaxInFlight)
}

// breakerOf is how the breaker stands, and since when it is not closed.
func breakerOf(s stream.ServiceState) string {
	if s.Breaker == stream.BreakerClosed {
		return s.Breaker
	}
	return fmt.Sprintf("%s, opened %d times since %s", s.Breaker, s.Slowdown.Times, s.Slowdown.Since.UTC().Format(time.RFC3339))
}
