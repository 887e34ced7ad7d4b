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

// Options say how streams are made. They have no effect on streams that exist.
type Options struct {
	Replicas int   // of every stream; default 1
	MaxBytes int64 // of every stream, and a quarter of the contexts' bucket; default 1 GiB
	MaxMsgs  int64 // of the jobs stream; default no bound but MaxBytes

	KeepBodies time.Duration // how long bodies that are too large for a job are kept; default 72h

	Services map[string]int // whose calls get a consumer, and how many of them may be in flight at a time
}

func (o Options) withDefaults() Options {
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.KeepBodies == 0 {
		o.KeepBodies = keepBodies
	}
	return o
}

// minFirstSeq tells a stream that was made by us from one that was not: ours begin at the time in microseconds, so that
// a stream which was deleted and made again goes on above the old one, and no ack held from the old one can touch it.
const minFirstSeq = 1e15

// bucketShare is how much larger the contexts' bucket is than the streams: it keeps up to 64 commits of every context
// there is.
const bucketShare = 4

// keepBodies is how long a stored body is kept: a weekend, and a day to look at what went wrong.
const keepBodies = 72 * time.Hour

// callsBound names the bound of the calls stream, in bytes, in its metadata.
const callsBound = "thence_max_bytes"

// Consumer settings. The ack wait is how long a job of a dead worker lies still; see rule 9 in docs/protocol.md.
const (
	ackWait       = 5 * time.Second
	maxAckPending = -1 // no limit: jobs that wait, of a held context say, must not keep others from being handed out
	workers       = "workers"
)

// history is how many commits of a context are kept: as many as a bucket can.
const history = 64

const noBound = "it has no max_bytes: a full disk stops the whole server, so it needs a bound below that"

// Ensure makes the pool's streams, bucket and consumers where they are missing, and checks those that exist. Many
// workers may call it at once. It returns an error that wraps ErrUnfit when what is there can't be used, and says why.
func Ensure(ctx context.Context, nc *nats.Conn, name string, o Options) (*Pool, error) {
	p, err := Open(nc, name)
	if err != nil {
		return nil, err
	}
	if err := checkServer(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	for _, s := range p.streams(o) {
		if err := p.ensureStream(ctx, s.config, s.fits); err != nil {
			return nil, err
		}
	}
	if err := p.ensureBucket(ctx, o); err != nil {
		return nil, err
	}
	if _, err := p.ensureConsumer(ctx, job.JobsStream(name), JobsConsumer()); err != nil {
		return nil, err
	}
	for service, maxInFlight := range o.Services {
		if _, err := p.ensureConsumer(ctx, job.CallsStream(name), CallsConsumer(name, service, maxInFlight)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// JobsConsumer is the consumer that hands out a pool's jobs.
func JobsConsumer() jetstream.ConsumerConfig {
	return consumer(jetstream.ConsumerConfig{Durable: workers, MaxAckPending: maxAckPending})
}

// CallsConsumer is the consumer that hands out a pool's calls to one service.
func CallsConsumer(pool, service string, maxInFlight int) jetstream.ConsumerConfig {
	return consumer(jetstream.ConsumerConfig{
		Durable: "call_" + service, FilterSubject: pool + ".*.call." + service, MaxAckPending: maxInFlight,
	})
}

func consumer(c jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	c.AckPolicy, c.AckWait, c.MaxDeliver, c.DeliverPolicy = jetstream.AckExplicitPolicy, ackWait, -1, jetstream.DeliverAllPolicy
	return c
}

func checkServer(version string) error {
	if version == "" {
		return fmt.Errorf("no server to make streams on: %w", nats.ErrDisconnected)
	}
	have, want := numbers(version), numbers(MinServer)
	if slices.Compare(have, want) < 0 {
		return fmt.Errorf("nats-server %s %w: Thence needs %s or newer (work queues, schedules and syncs of older ones lose messages)",
			version, ErrUnfit, MinServer)
	}
	return nil
}

func numbers(version string) []int {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	var n []int
	for _, part := range strings.Split(version, ".") {
		i, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		n = append(n, i)
	}
	return n
}

type wanted struct {
	config jetstream.StreamConfig
	fits   func(jetstream.StreamConfig) string // empty, or what is wrong
}

func (p *Pool) streams(o Options) []wanted {
	jobs, calls, dead := Streams(p.Name, o)
	return []wanted{{jobs, fitsJobs}, {calls, fitsCalls}, {dead, fitsDead}, {Rates(p.Name, o), fitsRates}, {bodies(p.Name, o), fitsBodies},
		{Releases(p.Name, o), fitsReleases}}
}

// bodies is the stream below the pool's object store of bodies, as the client library makes one.
func bodies(pool string, o Options) jetstream.StreamConfig {
	bucket := job.BodiesBucket(pool)
	return jetstream.StreamConfig{
		Name: job.BodiesStream(pool), Subjects: bodiesSubjects(bucket), Description: "Thence: bodies of the worker pool " + pool + " that are too large for a job",
		MaxAge: o.KeepBodies, MaxBytes: o.MaxBytes, Storage: jetstream.FileStorage, Replicas: o.Replicas,
		AllowRollup: true, AllowDirect: true, Discard: jetstream.DiscardNew,
	}
}

func bodiesSubjects(bucket string) []string {
	return []string{"$O." + bucket + ".C.>", "$O." + bucket + ".M.>"}
}

func fitsBodies(c jetstream.StreamConfig) string {
	switch {
	case c.Retention != jetstream.LimitsPolicy:
		return fmt.Sprintf("its retention is %s, want limits", c.Retention)
	case c.Discard != jetstream.DiscardNew:
		return "it discards old messages when full, want discard new: else bodies lose their chunks before their time"
	case c.MaxBytes <= 0:
		return noBound
	case c.MaxAge <= 0:
		return "it has no max_age: nothing but that removes a body"
	case !c.AllowDirect:
		return "it does not allow direct gets"
	}
	return ""
}

// Streams are a pool's streams of jobs, calls and dead letters as Ensure would make them now.
func Streams(pool string, o Options) (jobs, calls, dead jetstream.StreamConfig) {
	o = o.withDefaults()
	first := uint64(time.Now().UnixMicro())
	base := jetstream.StreamConfig{
		Storage: jetstream.FileStorage, Replicas: o.Replicas, MaxBytes: o.MaxBytes,
		Discard: jetstream.DiscardNew, AllowDirect: true, MaxMsgSize: job.MaxJob, Duplicates: 2 * time.Minute,
	}
	jobs, calls, dead = base, base, base
	jobs.Name, jobs.Subjects = job.JobsStream(pool), []string{pool + ".*"}
	jobs.Description = "Thence: jobs of the worker pool " + pool
	jobs.Retention, jobs.FirstSeq = jetstream.WorkQueuePolicy, first
	if o.MaxMsgs > 0 {
		jobs.MaxMsgs = o.MaxMsgs
	}
	calls.Name, calls.Subjects = job.CallsStream(pool), []string{pool + ".*.call.*", pool + ".*.retry.*", pool + ".*.sent.*"}
	calls.Description = "Thence: calls and timers of the worker pool " + pool
	calls.Retention, calls.FirstSeq = jetstream.WorkQueuePolicy, first
	calls.AllowMsgSchedules, calls.AllowMsgTTL = true, true
	// A stream with schedules can't discard new messages (error 10052), and one that discards old ones must never be
	// full. So it has no limit of its own, and workers keep it below the bound in its metadata: see Pool.RoomForCalls.
	calls.Discard, calls.MaxBytes = jetstream.DiscardOld, -1
	calls.Metadata = map[string]string{callsBound: strconv.FormatInt(o.MaxBytes, 10)}
	dead.Name, dead.Subjects = job.DeadStream(pool), []string{pool + ".*.dead.*"}
	dead.Description = "Thence: dead letters of the worker pool " + pool
	dead.MaxMsgsPerSubject, dead.MaxMsgSize = 1, -1
	return jobs, calls, dead
}

func fitsJobs(c jetstream.StreamConfig) string {
	switch {
	case c.AllowBatchPublish:
		return "it allows fast batches (allow_batched): their one ack may count jobs that the stream never got, and a job counts as accepted once it is acked"
	case c.AllowMsgSchedules || c.AllowMsgTTL || c.AllowRollup || c.AllowAtomicPublish:
		return "it allows schedules, TTL, roll-up or batches: by headers alone, whoever may publish jobs could then do more than that"
	case c.Discard != jetstream.DiscardNew:
		return "it discards old messages when full, want discard new"
	case c.MaxBytes <= 0:
		return noBound
	case c.MaxAge > 0:
		return fmt.Sprintf("its max_age is %s, and drops jobs that wait for longer: what was accepted must stay", c.MaxAge)
	case c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject:
		return fmt.Sprintf("it keeps %d messages a subject and drops the oldest: what was accepted must stay (with discard_new_per_subject it refuses instead)",
			c.MaxMsgsPerSubject)
	default:
		return fitsQueue(c)
	}
}

func fitsCalls(c jetstream.StreamConfig) string {
	switch {
	case !c.AllowMsgSchedules:
		return "it does not allow message schedules, which retries wait on"
	case c.MaxBytes > 0 || c.MaxMsgs > 0 || c.MaxAge > 0 || c.MaxMsgsPerSubject > 0:
		return "it has a limit, and would drop old calls when it is reached; workers keep it below " + callsBound + " in its metadata instead"
	default:
		return fitsQueue(c)
	}
}

func fitsQueue(c jetstream.StreamConfig) string {
	switch {
	case c.Retention != jetstream.WorkQueuePolicy:
		return fmt.Sprintf("its retention is %s, want workqueue", c.Retention)
	case c.FirstSeq < minFirstSeq:
		return fmt.Sprintf("its first_seq is %d, want the time in microseconds (above 10^15): sequences must never repeat when a stream is made again",
			c.FirstSeq)
	case !c.AllowDirect:
		return "it does not allow direct gets"
	case c.MaxMsgSize > 0 && c.MaxMsgSize < job.MaxJob:
		return fmt.Sprintf("its max_msg_size is %d, want %d or more: answers and calls of that size are ours, and would be refused for good", c.MaxMsgSize, job.MaxJob)
	}
	return ""
}

func fitsDead(c jetstream.StreamConfig) string {
	switch {
	case c.Retention != jetstream.LimitsPolicy:
		return fmt.Sprintf("its retention is %s, want limits", c.Retention)
	case c.MaxMsgsPerSubject != 1:
		return fmt.Sprintf("it keeps %d messages a subject, want 1", c.MaxMsgsPerSubject)
	case c.Discard != jetstream.DiscardNew:
		return "it discards old letters when full, want discard new: a job that fails would take another's letter away"
	case c.MaxBytes <= 0:
		return noBound
	}
	return ""
}

func (p *Pool) ensureStream(ctx context.Context, want jetstream.StreamConfig, fits func(jetstream.StreamConfig) string) error {
	s, err := p.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = p.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another worker was first
			s, err = p.js.Stream(ctx, want.Name)
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil { // the server does not answer what it does not allow
			err = fmt.Errorf("it is missing, and the server did not answer to make it: if this user has no permission, "+
				"`thence init --pool %s` makes it, run by one who has: %w", p.Name, err)
		}
	}
	if err != nil {
		return setupError("stream "+want.Name, err)
	}
	have := s.CachedInfo().Config
	if err := notCounters(have); err != nil {
		return err
	}
	if outdated(have.Subjects, want.Subjects) && fits(have) == "" {
		have.Subjects = want.Subjects
		if _, err := p.js.UpdateStream(ctx, have); err != nil {
			return setupError("stream "+want.Name, err)
		}
	}
	problem := fits(have)
	if !slices.Equal(have.Subjects, want.Subjects) && problem == "" {
		problem = fmt.Sprintf("its subjects are %q, want %q", have.Subjects, want.Subjects)
	}
	if problem != "" {
		return fmt.Errorf("stream %s %w: %s. Change it with `nats stream edit`, or use another pool name", want.Name, ErrUnfit, problem)
	}
	return nil
}

// notCounters returns an error for a stream of counters (ADR-49): every message of ours is refused there, and no edit changes that.
// So such a stream holds nothing of ours.
func notCounters(c jetstream.StreamConfig) error {
	if !c.AllowMsgCounter {
		return nil
	}
	return fmt.Errorf("stream %s %w: it takes nothing but increments of counters (allow_msg_counter), and no edit changes that. "+
		"Remove it with `nats stream rm %s`, or use another pool name", c.Name, ErrUnfit, c.Name)
}

// outdated tells whether a stream was made by a version that knew fewer subjects: all that it has are still wanted.
func outdated(have, want []string) bool {
	return len(have) > 0 && len(have) < len(want) && slices.Equal(have, want[:len(have)])
}

func setupError(what string, err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%s: JetStream is not enabled on this server: start it with `nats-server -js`: %w", what, err)
	case errors.As(err, &api) && strings.Contains(api.Description, "overlap"):
		return fmt.Errorf("%s: another stream takes its subjects: remove it (`nats stream ls --subjects`), or use another pool name: %w", what, err)
	case errors.As(err, &api) && strings.Contains(api.Description, "non-clustered"):
		return fmt.Errorf("%s: this server is alone, and --replicas wants a cluster of as many: leave it out, or make the pool on a cluster: %w", what, err)
	case errors.As(err, &api) && strings.Contains(api.Description, "insufficient"):
		return fmt.Errorf("%s: the server has no room for its max_bytes: give JetStream more storage, or init with a smaller --max-bytes: %w", what, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

func (p *Pool) ensureBucket(ctx context.Context, o Options) error {
	kv, err := p.js.KeyValue(ctx, p.Name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = p.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: p.Name, Description: "Thence: contexts of the worker pool " + p.Name,
			History: history, MaxBytes: bucketShare * o.MaxBytes, Replicas: o.Replicas, Storage: jetstream.FileStorage,
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = p.js.KeyValue(ctx, p.Name)
		}
	}
	if err != nil {
		return setupError("bucket "+p.Name, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return setupError("bucket "+p.Name, err)
	}
	if below, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		if err := notCounters(below.StreamInfo().Config); err != nil {
			return err
		}
	}
	if problem := fitsContexts(status); problem != "" {
		return fmt.Errorf("bucket %s %w: %s. Change its stream %s with `nats stream edit`, or use another pool name",
			p.Name, ErrUnfit, problem, job.ContextsStream(p.Name))
	}
	return nil
}

func fitsContexts(s jetstream.KeyValueStatus) string {
	switch {
	case s.TTL() != 0:
		return fmt.Sprintf("its values expire after %s, and a context must not", s.TTL())
	case s.History() != history:
		return fmt.Sprintf("its history is %d, want %d: it is the contexts' timeline, in which callers look for reports", s.History(), history)
	case s.Config().MaxBytes <= 0:
		return noBound
	}
	return ""
}

// ensureConsumer makes a durable pull consumer, or checks the one that exists. Its ack wait and max_ack_pending may be
// tuned by operators.
func (p *Pool) ensureConsumer(ctx context.Context, stream string, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	c, err := p.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		c, err = p.js.CreateConsumer(ctx, stream, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			c, err = p.js.Consumer(ctx, stream, want.Durable)
		}
	}
	if err != nil {
		return nil, setupError(fmt.Sprintf("consumer %s of stream %s", want.Durable, stream), err)
	}
	have := c.CachedInfo().Config
	problem := ""
	switch {
	case have.AckPolicy != want.AckPolicy:
		problem = "its ack policy is not explicit"
	case have.MaxDeliver > 0:
		problem = fmt.Sprintf("its max_deliver is %d, which strands messages on a work queue; want none", have.MaxDeliver)
	case have.FilterSubject != want.FilterSubject:
		problem = fmt.Sprintf("its filter is %q, want %q", have.FilterSubject, want.FilterSubject)
	}
	if problem != "" {
		return nil, fmt.Errorf("consumer %s of stream %s %w: %s", want.Durable, stream, ErrUnfit, problem)
	}
	return c, nil
}

// Keys returns the installation's keys, and makes them when there are none. Workers and operators alone may read them.
func (p *Pool) Keys(ctx context.Context, o Options) (job.Keyring, error) {
	var ring job.Keyring
	kv, err := p.keysBucket(ctx, o.withDefaults())
	if err != nil {
		return ring, setupError("bucket "+job.KeysBucket, err)
	}
	// From the leader: a replica that lags would not have the keys that another worker has just made.
	read := getRequest{LastFor: "$KV." + job.KeysBucket + ".keys"}
	m, err := p.fromLeader(ctx, "KV_"+job.KeysBucket, read)
	if errors.Is(err, ErrNone) {
		value, merr := json.Marshal(job.NewKeyring())
		if merr != nil {
			return ring, merr
		}
		if _, err := kv.Create(ctx, "keys", value); err != nil && !errors.Is(err, jetstream.ErrKeyExists) {
			return ring, fmt.Errorf("make the installation's key: %w", err)
		}
		m, err = p.fromLeader(ctx, "KV_"+job.KeysBucket, read)
	}
	if err != nil {
		return ring, fmt.Errorf("read the installation's keys: %w", err)
	}
	if err := json.Unmarshal(m.Data, &ring); err != nil {
		return ring, fmt.Errorf("bucket %s, key keys: %w", job.KeysBucket, err)
	}
	return ring, nil
}

func (p *Pool) keysBucket(ctx context.Context, o Options) (jetstream.KeyValue, error) {
	kv, err := p.js.KeyValue(ctx, job.KeysBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = p.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: job.KeysBucket, Description: "Thence: keys of this installation; for workers and operators alone",
			History: 1, MaxBytes: 1 << 20, Replicas: o.Replicas, Storage: jetstream.FileStorage,
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = p.js.KeyValue(ctx, job.KeysBucket)
		}
	}
	return kv, err
}
