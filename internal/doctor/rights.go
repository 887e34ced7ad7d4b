package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/thence-dev/thence/internal/stream"
)

// roles are what each kind of client needs, as subjects.md permits it.
var roles = []struct {
	name  string
	needs []string
}{
	{"caller", []string{stream.PublishJobs}},
	{"caller that awaits its jobs", []string{stream.PublishJobs, stream.ReadContexts, stream.FollowContexts, stream.ReadLetters}},
	{"worker", []string{
		stream.PublishJobs, stream.PublishContexts, stream.PublishCalls, stream.PublishLetters, stream.PublishBodies, stream.ReadContexts,
		stream.ReadJobs, stream.ReadLeaders, stream.ReadKeys, stream.TakeJobs,
	}},
	{"operator", []string{
		stream.PublishJobs, stream.PublishContexts, stream.ReadContexts, stream.FollowContexts, stream.ListLetters, stream.ReadLeaders, stream.ReadKeys,
		stream.RemoveLetters, stream.RemoveTimers, stream.Look,
	}},
	{"console", []string{stream.ReadContexts, stream.FollowContexts, stream.ListContexts, stream.ReadJobs, stream.ReadLetters, stream.ListLetters}},
	{"setup", []string{stream.MakeStreams, stream.ReadKeys}},
}

// checkRights learns what the credentials in use permit, and for whom they are enough.
func checkRights(ctx context.Context, p *patient) []Finding {
	p.may, p.silent = p.tryRights(ctx)
	if silent := slices.Sorted(maps.Keys(p.silent)); len(silent) > 0 {
		return []Finding{{
			Level: Problem, Found: fmt.Sprintf("within %s the server does not answer, and does not refuse either: %s", p.asker.patience, strings.Join(silent, ", ")),
			Why: "a full or failed disk stops JetStream so, a stream without a leader, and a server that is too busy",
			Do:  "look at the server's log and its /healthz; where the disk is full, make room, then restart it (\"A full disk\" in docs/operations.md)",
		}}
	}
	var fit []string
	for _, r := range roles {
		if len(p.lacks(r.needs)) == 0 {
			fit = append(fit, r.name)
		}
	}
	var denied []string
	for _, r := range p.pool.Rights() {
		if !p.may[r.Name] {
			denied = append(denied, r.Name)
		}
	}
	switch {
	case len(fit) == 0:
		return []Finding{{
			Level: Problem, Found: "these credentials fit nobody: they may not " + strings.Join(denied, ", "),
			Why: "a caller must at least publish jobs; one who may do so in some contexts alone can't be told from here", Do: "see \"Who may do what\" in subjects.md for the permissions of callers, workers and operators",
		}}
	case len(denied) == 0:
		return []Finding{{Level: OK, Found: "these credentials fit everybody: " + strings.Join(fit, ", ")}}
	case !slices.ContainsFunc(fit, trusted) && (p.may[stream.ReadKeys] || p.may[stream.PublishContexts]):
		return []Finding{{
			Level: Problem, Found: "these credentials fit a " + strings.Join(fit, ", ") + ", and may also " + forgers(p.may),
			Why: "who reads the keys forges answers, and who writes contexts writes any state; callers must not",
			Do:  "see \"Who may do what\" in subjects.md for the permissions of callers",
		}}
	}
	return []Finding{{Level: OK, Found: "these credentials fit a " + strings.Join(fit, ", ") + "; they may not " + strings.Join(denied, ", ")}}
}

// trusted tells who needs what a caller must not have.
func trusted(role string) bool { return role == "worker" || role == "operator" || role == "setup" }

func forgers(may map[string]bool) string {
	var all []string
	for _, r := range []string{stream.ReadKeys, stream.PublishContexts} {
		if may[r] {
			all = append(all, r)
		}
	}
	return strings.Join(all, " and ")
}

// tryRights asks for everything at once, and for the same only once. What nobody answers or denies is silent, and not
// permitted.
func (p *patient) tryRights(ctx context.Context) (may, silent map[string]bool) {
	rights := p.pool.Rights()
	requests := map[string]stream.Request{}
	for _, r := range rights {
		for _, q := range r.Requests {
			requests[q.Subject] = q
		}
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	denied, unheard := map[string]bool{}, map[string]bool{}
	for subject, q := range requests {
		group.Go(func() {
			_, err := p.asker.ask(ctx, subject, q.Header, q.Body)
			if err == nil || errors.Is(err, nats.ErrNoResponders) { // nobody there to do it, but it is permitted
				return
			}
			mu.Lock()
			defer mu.Unlock()
			denied[subject] = true
			unheard[subject] = errors.Is(err, context.DeadlineExceeded)
		})
	}
	group.Wait()
	may, silent = map[string]bool{}, map[string]bool{}
	for _, r := range rights {
		may[r.Name] = !slices.ContainsFunc(r.Requests, func(q stream.Request) bool { return denied[q.Subject] })
		if slices.ContainsFunc(r.Requests, func(q stream.Request) bool { return unheard[q.Subject] }) {
			silent[r.Name] = true
		}
	}
	return may, silent
}
