package calls

import (
	"cmp"
	"slices"

	"github.com/thence-dev/thence/internal/stream"
)

// Use is what this worker knows of its calls to each service, by name. It is safe for concurrent use.
func (p *Performer) Use() []stream.ServiceUse {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []stream.ServiceUse
	for name, s := range p.serving {
		u := stream.ServiceUse{Service: name, Rate: s.service.Rate.String(), InFlight: int(s.inFlight.Load())}
		if s.pacer != nil {
			u.AwaitSlot = int(s.pacer.waiting.Load())
		}
		s.brake.use(&u, p.now())
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b stream.ServiceUse) int { return cmp.Compare(a.Service, b.Service) })
	return all
}
