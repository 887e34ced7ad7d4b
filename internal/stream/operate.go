package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// What operators do to streams, and what they ask about them. Nothing here is used by the protocol.

// RemoveDead removes a dead letter by its sequence in the stream of dead letters, and tells whether it was there still.
// A letter that took its place on the same subject has another sequence, and stays.
func (p *Pool) RemoveDead(ctx context.Context, sequence uint64) (bool, error) {
	var answer struct {
		Success bool `json:"success"`
	}
	err := p.api(ctx, "STREAM.MSG.DELETE."+job.DeadStream(p.Name), map[string]any{"seq": sequence, "no_erase": true}, &answer)
	var api *jetstream.APIError
	if errors.As(err, &api) { // the server has no code of its own for a message that is not there
		if _, err := p.fromLeader(ctx, job.DeadStream(p.Name), getRequest{Seq: sequence}); errors.Is(err, ErrNone) {
			return false, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("remove dead letter %d of pool %s: %w", sequence, p.Name, err)
	}
	return answer.Success, nil
}

// PurgeRetry removes the timer of a call's next try, and tells whether there was one.
func (p *Pool) PurgeRetry(ctx context.Context, a job.Address, call string) (bool, error) {
	var answer struct {
		Purged uint64 `json:"purged"`
	}
	err := p.api(ctx, "STREAM.PURGE."+job.CallsStream(p.Name), map[string]any{"filter": a.RetrySubject(call)}, &answer)
	if err != nil {
		return false, fmt.Errorf("remove the timer of call %s of %s: %w", call, a, err)
	}
	return answer.Purged > 0, nil
}

// DeadFromLeader is Dead as the stream's leader has it, by the letter's subject.
func (p *Pool) DeadFromLeader(ctx context.Context, subject string) (job.Message, error) {
	return p.fromLeader(ctx, job.DeadStream(p.Name), getRequest{LastFor: subject})
}

// ReadKeys returns the installation's keys; ErrNone when nobody has made them yet. Keys makes them.
func (p *Pool) ReadKeys(ctx context.Context) (job.Keyring, error) {
	var ring job.Keyring
	m, err := p.fromLeader(ctx, job.ContextsStream(job.KeysBucket), getRequest{LastFor: "$KV." + job.KeysBucket + ".keys"})
	if err != nil {
		return ring, fmt.Errorf("read the installation's keys: %w", err)
	}
	if err := json.Unmarshal(m.Data, &ring); err != nil {
		return ring, fmt.Errorf("bucket %s, key keys: %w", job.KeysBucket, err)
	}
	return ring, nil
}

// api is one request to JetStream, for what the client library offers only after asking for the stream.
func (p *Pool) api(ctx context.Context, what string, request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	msg, err := p.nc.RequestWithContext(ctx, "$JS.API."+what, body)
	if err != nil {
		return err
	}
	var failed struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := errors.Join(json.Unmarshal(msg.Data, &failed), json.Unmarshal(msg.Data, answer)); err != nil {
		return err
	}
	if failed.Error != nil {
		return failed.Error
	}
	return nil
}

// CheckServer returns an error that wraps ErrUnfit for a server that is too old.
func CheckServer(version string) error { return checkServer(version) }

// Pools are the names of the worker pools that have a stream of jobs, sorted.
func Pools(ctx context.Context, nc *nats.Conn) ([]string, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	var pools []string
	names := js.StreamNames(ctx)
	for name := range names.Name() {
		if pool, ok := strings.CutPrefix(name, job.JobsStream("")); ok && job.ValidPool(pool) == nil {
			pools = append(pools, pool)
		}
	}
	slices.Sort(pools)
	return slices.Compact(pools), names.Err()
}

// Account is what JetStream lets the account use, and what it uses. A limit of -1 is none.
type Account struct {
	Store, MaxStore         int64 // bytes
	Memory, MaxMemory       int64 // bytes
	Streams, MaxStreams     int
	Consumers, MaxConsumers int
}

// LookAtAccount asks for the account's limits: one of each tier of replicas, or one in all. Its error wraps
// jetstream.ErrJetStreamNotEnabled, or the same for the account, when there is no JetStream.
func LookAtAccount(ctx context.Context, nc *nats.Conn) (map[string]Account, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := js.AccountInfo(ctx)
	if err != nil {
		return nil, err
	}
	if len(info.Tiers) == 0 {
		return map[string]Account{"": account(info.Tier)}, nil
	}
	tiers := map[string]Account{}
	for name, t := range info.Tiers {
		tiers[name] = account(t)
	}
	return tiers, nil
}

func account(t jetstream.Tier) Account {
	return Account{
		Store: int64(t.Store), MaxStore: t.Limits.MaxStore, Memory: int64(t.Memory), MaxMemory: t.Limits.MaxMemory,
		Streams: t.Streams, MaxStreams: t.Limits.MaxStreams, Consumers: t.Consumers, MaxConsumers: t.Limits.MaxConsumers,
	}
}

// Part is one of a pool's streams as the server has it.
type Part struct {
	Name    string
	Missing bool
	Unfit   string        // why Thence can't work with it; empty: it can
	Asked   time.Time     // by the server's clock, when it answered
	Answer  time.Duration // how long that took

	Replicas          int
	Cluster, Leader   string // empty on a server that is alone
	Peers             []Peer
	Messages          uint64
	Bytes, Bound      uint64 // held, and at most; 0: no bound
	FirstSeq, LastSeq uint64
	FirstTime         time.Time // of the oldest message
	LastTime          time.Time // of the last one that was taken
	Consumers         []Consumer
}

// Peer is another server that has a copy of a stream.
type Peer struct {
	Name    string
	Current bool
	Offline bool
	Lag     uint64 // operations behind the leader
}

// Consumer is one of a queue's consumers as the server has it.
type Consumer struct {
	Name        string
	Unfit       string // why Thence can't work with it; empty: it can
	Waiting     int    // pulls that wait for a message; 0 when no worker takes any
	Pending     uint64 // messages that were not handed out yet
	AckPending  int    // handed out, and not ended
	MaxPending  int    // how many of those there may be
	Redelivered int
	PausedFor   time.Duration
}

// Inspect looks at the pool's streams, its bucket and the bucket of keys, with their consumers, and at what Ensure would
// refuse of them. It changes nothing.
func (p *Pool) Inspect(ctx context.Context) ([]Part, error) { return p.parts(ctx, true) }

// InspectStreams is Inspect without consumers, which who makes the streams may not list.
func (p *Pool) InspectStreams(ctx context.Context) ([]Part, error) { return p.parts(ctx, false) }

func (p *Pool) parts(ctx context.Context, consumers bool) ([]Part, error) {
	jobs, calls, dead := Streams(p.Name, Options{})
	var parts []Part
	for _, w := range []struct {
		name     string
		subjects []string
		fits     func(jetstream.StreamConfig) string
	}{
		{jobs.Name, jobs.Subjects, fitsJobs}, {calls.Name, calls.Subjects, fitsCalls}, {dead.Name, dead.Subjects, fitsDead},
		{job.RatesStream(p.Name), []string{job.RateSubject(p.Name, "*")}, fitsRates},
		{job.BodiesStream(p.Name), bodiesSubjects(job.BodiesBucket(p.Name)), fitsBodies},
		{job.ReleasesStream(p.Name), []string{releaseSubjects(p.Name)}, fitsReleases},
		{job.ContextsStream(p.Name), []string{"$KV." + p.Name + ".>"}, fitsContextsStream},
		{job.ContextsStream(job.KeysBucket), []string{"$KV." + job.KeysBucket + ".>"}, func(jetstream.StreamConfig) string { return "" }},
	} {
		part, err := p.inspect(ctx, w.name, consumers, func(c jetstream.StreamConfig) string {
			problem := stays(c)
			if problem == "" {
				problem = w.fits(c)
			}
			if problem == "" && !slices.Equal(c.Subjects, w.subjects) {
				problem = fmt.Sprintf("its subjects are %q, want %q", c.Subjects, w.subjects)
			}
			return problem
		})
		if err != nil {
			return parts, fmt.Errorf("look at stream %s: %w", w.name, err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// stays refuses what makes any stream of ours useless: nothing can be written to it, or others do.
func stays(c jetstream.StreamConfig) string {
	switch {
	case c.Sealed:
		return "it is sealed: nothing can be written to it or removed from it any more"
	case c.Mirror != nil:
		return fmt.Sprintf("it is a mirror of %s, and takes nothing but what that has", c.Mirror.Name)
	case len(c.Sources) > 0:
		return fmt.Sprintf("it copies what another stream (%s) has", c.Sources[0].Name)
	case c.NoAck:
		return "it does not acknowledge what is published: nobody would know what it has"
	case c.Storage != jetstream.FileStorage:
		return "it is kept in memory, and gone when its server restarts"
	}
	return ""
}

// fitsContextsStream is fitsContexts for the stream below the bucket.
func fitsContextsStream(c jetstream.StreamConfig) string {
	switch {
	case c.MaxAge != 0:
		return fmt.Sprintf("its values expire after %s, and a context must not", c.MaxAge)
	case c.MaxMsgsPerSubject != history:
		return fmt.Sprintf("its history is %d, want %d: it is the contexts' timeline, in which callers look for reports", c.MaxMsgsPerSubject, history)
	case c.Discard != jetstream.DiscardNew:
		return "it discards old commits when full, want discard new: a context's last commit is all that is known of it"
	case c.MaxBytes <= 0:
		return noBound
	case !c.AllowDirect:
		return "it does not allow direct gets"
	}
	return ""
}

func (p *Pool) inspect(ctx context.Context, name string, consumers bool, fits func(jetstream.StreamConfig) string) (Part, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	began := time.Now()
	s, err := p.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Part{Name: name, Missing: true}, nil
	}
	if err != nil {
		return Part{}, err
	}
	info := s.CachedInfo()
	part := Part{
		Name: name, Unfit: fits(info.Config), Asked: info.TimeStamp, Answer: time.Since(began), Replicas: info.Config.Replicas,
		Messages: info.State.Msgs, Bytes: info.State.Bytes, Bound: bound(info.Config), FirstSeq: info.State.FirstSeq, LastSeq: info.State.LastSeq,
		FirstTime: info.State.FirstTime, LastTime: info.State.LastTime,
	}
	if c := info.Cluster; c != nil {
		part.Cluster, part.Leader = c.Name, c.Leader
		for _, r := range c.Replicas {
			part.Peers = append(part.Peers, Peer{r.Name, r.Current, r.Offline, r.Lag})
		}
	}
	if !consumers || info.Config.Retention != jetstream.WorkQueuePolicy {
		return part, nil // those of other streams are readers that come and go
	}
	all := s.ListConsumers(ctx)
	for c := range all.Info() {
		part.Consumers = append(part.Consumers, p.consumer(c))
	}
	return part, all.Err()
}

// bound is how many bytes a stream may hold; 0 when it has no bound.
func bound(c jetstream.StreamConfig) uint64 {
	if c.MaxBytes > 0 {
		return uint64(c.MaxBytes)
	}
	n, err := strconv.ParseUint(c.Metadata[callsBound], 10, 63)
	if err != nil {
		return 0
	}
	return n
}

func (p *Pool) consumer(c *jetstream.ConsumerInfo) Consumer {
	out := Consumer{
		Name: c.Name, Waiting: c.NumWaiting, Pending: c.NumPending, AckPending: c.NumAckPending, MaxPending: c.Config.MaxAckPending,
		Redelivered: c.NumRedelivered,
	}
	if c.Paused {
		out.PausedFor = c.PauseRemaining
	}
	want := JobsConsumer()
	if service, ok := strings.CutPrefix(c.Name, CallsConsumer(p.Name, "", 0).Durable); ok {
		want = CallsConsumer(p.Name, service, 0)
	}
	switch {
	case c.Name != want.Durable:
		out.Unfit = "Thence did not make it: on a work queue it takes messages away from workers"
	case c.Config.AckPolicy != want.AckPolicy:
		out.Unfit = "its ack policy is not explicit"
	case c.Config.MaxDeliver > 0:
		out.Unfit = fmt.Sprintf("its max_deliver is %d, which strands messages on a work queue; want none", c.Config.MaxDeliver)
	case c.Config.FilterSubject != want.FilterSubject:
		out.Unfit = fmt.Sprintf("its filter is %q, want %q", c.Config.FilterSubject, want.FilterSubject)
	}
	return out
}

// A Right is something that a client may do when all of its requests are permitted.
type Right struct {
	Name     string
	Requests []Request
}

// A Request is permitted or not, and does nothing: to JetStream it is malformed, or it is a message for a stream that
// there is not, and is refused when it gets there. Any answer means that it is permitted.
type Request struct {
	Subject string
	Header  nats.Header
	Body    []byte
}

// Names of rights, each what it lets do.
const (
	PublishJobs     = "publish jobs"
	PublishContexts = "write contexts"
	PublishCalls    = "publish calls"
	PublishLetters  = "publish dead letters"
	PublishBodies   = "publish bodies"
	ReadContexts    = "read contexts"
	FollowContexts  = "follow contexts"
	ListContexts    = "list contexts"
	ReadJobs        = "read jobs"
	ReadLetters     = "read dead letters"
	ListLetters     = "list dead letters"
	ReadLeaders     = "read from leaders"
	ReadKeys        = "read the keys"
	TakeJobs        = "take jobs"
	MakeStreams     = "make streams"
	RemoveLetters   = "remove dead letters"
	RemoveTimers    = "remove timers"
	Look            = "look at streams"
)

// Rights are what callers, workers and operators of the pool need of the server.
func (p *Pool) Rights() []Right {
	const nowhere = "thence-doctor" // no context of a well-behaved caller
	at := job.Address{Pool: p.Name, Context: nowhere}
	jobs, calls, dead := job.JobsStream(p.Name), job.CallsStream(p.Name), job.DeadStream(p.Name)
	contexts, keys := job.ContextsStream(p.Name), job.ContextsStream(job.KeysBucket)
	publish := func(name, subject string) Right {
		return Right{name, []Request{{subject, nats.Header{jetstream.ExpectedStreamHeader: {nowhere}}, nil}}}
	}
	ask := func(name string, api ...string) Right {
		r := Right{Name: name}
		for _, what := range api {
			r.Requests = append(r.Requests, Request{"$JS.API." + what, nil, []byte("{")})
		}
		return r
	}
	info, create, next, get := "STREAM.INFO.", "CONSUMER.CREATE.", "CONSUMER.MSG.NEXT.", "STREAM.MSG.GET."
	return []Right{
		publish(PublishJobs, at.String()), publish(PublishContexts, at.ContextSubject()),
		publish(PublishCalls, at.CallSubject("default")), publish(PublishLetters, at.DeadSubject("0")),
		publish(PublishBodies, metaSubject(job.BodiesBucket(p.Name), nowhere)),
		ask(ReadContexts, "DIRECT.GET."+contexts+"."+at.ContextSubject()),
		ask(FollowContexts, info+contexts, create+contexts+"."+nowhere),
		ask(ListContexts, info+contexts, create+contexts+"."+nowhere, next+contexts+"."+nowhere),
		ask(ReadJobs, "DIRECT.GET."+jobs), ask(ReadLetters, "DIRECT.GET."+dead),
		ask(ListLetters, info+dead, create+dead+"."+nowhere, next+dead+"."+nowhere),
		ask(ReadLeaders, get+contexts, get+jobs, get+calls, get+dead, get+job.BodiesStream(p.Name)), ask(ReadKeys, get+keys), ask(TakeJobs, next+jobs+"."+workers),
		ask(MakeStreams, "STREAM.CREATE."+jobs), ask(RemoveLetters, "STREAM.MSG.DELETE."+dead), ask(RemoveTimers, "STREAM.PURGE."+calls),
		ask(Look, info+jobs, info+calls, info+dead, info+contexts, info+keys, info+job.BodiesStream(p.Name), "CONSUMER.LIST."+jobs, "CONSUMER.LIST."+calls),
	}
}
