package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/job"
)

// TestHeadersReachNoFurther: a caller's headers can't schedule, roll up, expire or batch on the jobs stream, and a job
// that claims to be an answer is a dead letter.
func TestHeadersReachNoFurther(t *testing.T) { headersReachNoFurther(t, newGuarded(t)) }

func headersReachNoFurther(t *testing.T, g *guarded) {
	t.Helper()
	nc := g.as(t, "publisher")
	ctx := within(t, time.Minute)
	for name, header := range map[string]nats.Header{
		"a schedule":          {"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"payments.cus_43"}},
		"a copy":              {"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Source": {"$KV.payments.cus_43"}, "Nats-Schedule-Target": {"payments.cus_42"}},
		"a roll-up":           {"Nats-Rollup": {"all"}},
		"a subject's roll-up": {"Nats-Rollup": {"sub"}},
		"an expiry":           {"Nats-TTL": {"1s"}},
		"a batch":             {"Nats-Batch-Id": {"x"}, "Nats-Batch-Sequence": {"1"}},
		"a whole batch":       {"Nats-Batch-Id": {"y"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
		"a counter":           {"Nats-Incr": {"+1"}},
		"a cron":              {"Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {"payments.cus_43.call.api"}, "Nats-Schedule-TTL": {"1s"}},
		"another's sequence":  {"Nats-Expected-Last-Subject-Sequence": {"7"}, "Nats-Expected-Last-Subject-Sequence-Subject": {"payments.*"}},
		"a last id":           {"Nats-Expected-Last-Msg-Id": {"x"}},
		"a cancelled timer":   {"Nats-Schedule-Next": {"purge"}, "Nats-Scheduler": {"payments.cus_43.retry.1-0"}},
		"another stream's":    {"Nats-Expected-Stream": {"KV_payments"}},
		"a sequence to wait":  {"Nats-Expected-Last-Sequence": {"1"}},
	} {
		answer, err := nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: "payments.cus_42", Header: header, Data: []byte("x := 1")})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Seq   uint64              `json:"seq"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil || ack.Error == nil || ack.Seq != 0 {
			t.Errorf("%s is taken: %s", name, answer.Data)
		}
	}
	forged := nats.NewMsg("payments.cus_42")
	forged.Header.Set(job.HeaderCall, "1764000000000017-0")
	forged.Header.Set("Content-Type", job.TypeAnswer)
	forged.Header.Set(job.HeaderProof, "b3c7be70.AAAA")
	forged.Data = []byte(`{"response": {"status": 200}}`)
	buried := g.worker.logged("job is a dead letter")
	if _, err := nc.RequestMsgWithContext(ctx, forged); err != nil {
		t.Fatal(err)
	}
	g.worker.await(buried)
	if !strings.Contains(g.worker.output(), `"reason":"`+job.ReasonForged+`"`) {
		t.Errorf("the forged answer did not end as forged:\n%s", g.worker.output())
	}
}

// targets are subjects in the account that has the streams, on which an answer would do harm. The server sends an answer
// wherever its request says, and asks nobody whether the client may publish there.
var targets = []string{
	"payments.cus_43", "payments.cus_43.call.api", "payments.cus_43.dead.1", "payments.rate.api", "payments.ask.services",
	"$KV.payments.cus_43", "$KV.payments.cus_42", "$KV.thence-keys.keys", "$O.payments-bodies.M.x",
	"$JS.API.STREAM.DELETE.JOBS_payments", "$JS.API.STREAM.PURGE.KV_payments", "$JS.API.STREAM.MSG.DELETE.DEAD_payments",
	"$JS.API.CONSUMER.DELETE.JOBS_payments.workers", "$JS.API.CONSUMER.PAUSE.JOBS_payments.workers", "$JS.API.STREAM.SNAPSHOT.KV_thence-keys",
}

// askable are requests that a role may make, in their order, and which the server answers. Behind a blank stands a body.
var askable = map[string][]string{
	"publisher": {"payments.cus_42", "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42"},
	"caller": {
		"payments.cus_42", "$JS.API.STREAM.INFO.KV_payments", "$JS.API.STREAM.INFO.JOBS_payments", "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42",
		"$JS.API.DIRECT.GET.KV_payments.$KV.payments.none", `$JS.API.DIRECT.GET.DEAD_payments {"seq":1}`, `$JS.API.STREAM.MSG.GET.JOBS_payments {"last_by_subj":"payments.cus_42"}`,
		`$JS.API.STREAM.MSG.GET.KV_payments {"seq":1}`, `$JS.API.CONSUMER.CREATE.KV_payments.y {"stream_name":"KV_payments","config":{"name":"y","ack_policy":"none"}}`,
		"$JS.API.CONSUMER.DELETE.KV_payments.y",
	},
	"console": {
		"$JS.API.STREAM.INFO.KV_payments", "$JS.API.STREAM.INFO.DEAD_payments", "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42",
		`$JS.API.DIRECT.GET.JOBS_payments {"last_by_subj":"payments.cus_42"}`, "$JS.API.CONSUMER.LIST.CALLS_payments",
		`$JS.API.CONSUMER.CREATE.DEAD_payments.z {"stream_name":"DEAD_payments","config":{"name":"z","ack_policy":"none"}}`,
		`$JS.API.CONSUMER.MSG.NEXT.DEAD_payments.z {"batch":1,"no_wait":true}`, "$JS.API.CONSUMER.DELETE.DEAD_payments.z",
	},
}

// TestAnswersGoNoFurther: who is in an account of his own can't have an answer published where he may not publish himself.
func TestAnswersGoNoFurther(t *testing.T) { answersGoNoFurther(t, newGuarded(t)) }

func answersGoNoFurther(t *testing.T, g *guarded) {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	s := newSpy(t, g)
	s.fill(ctx)
	g.worker.stop() // what would be taken stays where it is
	before := s.look(ctx)
	for role, requests := range askable {
		nc := g.as(t, role)
		for _, r := range requests {
			request, body, _ := strings.Cut(r, " ")
			for _, target := range targets {
				if err := nc.PublishMsg(&nats.Msg{Subject: request, Reply: target, Data: []byte(body)}); err != nil {
					t.Fatal(err)
				}
			}
			// The server answers in order: with this answer, those before have gone where they went.
			m, err := nc.RequestWithContext(ctx, request, []byte(body))
			if err != nil || strings.Contains(string(m.Data), "not enabled") {
				t.Fatalf("%s, %s: %v, %+v", role, request, err, m)
			}
		}
		s.push(ctx, nc, role)
	}
	if diff := cmp.Diff(before, s.look(ctx)); diff != "" {
		t.Errorf("their answers went where they must not publish:\n%s", diff)
	}
}

// spy sees all that there is in the account that has the streams.
type spy struct {
	t  *testing.T
	nc *nats.Conn
	js jetstream.JetStream
}

func newSpy(t *testing.T, g *guarded) *spy {
	t.Helper()
	nc := g.as(t, "root")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &spy{t, nc, js}
}

// fill has a context for everyone to read: a commit, and a dead letter.
func (s *spy) fill(ctx context.Context) {
	s.t.Helper()
	for _, source := range []string{`import("context").set("n", 1)`, `x := 1 + undefined`} {
		if _, err := s.js.Publish(ctx, "payments.cus_42", []byte(source)); err != nil {
			s.t.Fatal(err)
		}
	}
	dead, err := s.js.Stream(ctx, job.DeadStream("payments"))
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := dead.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.Next(jetstream.FetchMaxWait(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
}

// push makes consumers that are to deliver where their maker may not publish. A server delivers only where somebody listens
// to the very subject, which is nowhere.
func (s *spy) push(ctx context.Context, nc *nats.Conn, role string) {
	s.t.Helper()
	if role == "publisher" {
		return // makes none
	}
	for i, target := range targets {
		for _, content := range []string{`"headers_only":true`, `"idle_heartbeat":100000000,"flow_control":true`} {
			name := fmt.Sprintf("push-%s-%d", role, i)
			body := fmt.Sprintf(`{"stream_name":"KV_payments","config":{"name":%q,"deliver_policy":"all","ack_policy":"none","deliver_subject":%q,%s}}`, name, target, content)
			for _, request := range []string{"CREATE", "DELETE"} {
				m, err := nc.RequestWithContext(ctx, "$JS.API.CONSUMER."+request+".KV_payments."+name, []byte(body))
				cycle := strings.HasPrefix(target, "$KV.payments.") // to the stream that it reads
				if err != nil || strings.Contains(string(m.Data), `"error"`) != cycle {
					s.t.Fatalf("%s, %s %s: %v, %+v", role, request, target, err, m)
				}
				body = ""
			}
		}
	}
}

// held is what a stream is and has.
type held struct {
	Config    jetstream.StreamConfig
	Subjects  map[string]uint64
	LastSeq   uint64
	Consumers []jetstream.ConsumerConfig
}

// look returns what all streams have, by name, but the jobs of cus_42, which all but the console may publish.
func (s *spy) look(ctx context.Context) map[string]held {
	s.t.Helper()
	all := map[string]held{}
	names := s.js.StreamNames(ctx)
	for name := range names.Name() {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			s.t.Fatal(err)
		}
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
		if err != nil {
			s.t.Fatal(err)
		}
		h := held{info.Config, info.State.Subjects, info.State.LastSeq, nil}
		if delete(h.Subjects, "payments.cus_42"); name == job.JobsStream("payments") {
			h.LastSeq = 0
		}
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			if c.Config.Durable != "" { // the others are a reader's
				h.Consumers = append(h.Consumers, c.Config)
			}
		}
		if err := consumers.Err(); err != nil {
			s.t.Fatal(err)
		}
		all[name] = h
	}
	if err := names.Err(); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// TestAnswersGoAnywhereInAnAccount is why callers have an account of their own: in the account that has the streams, one who
// may publish on one subject alone deletes a stream. When this fails, the server has learnt to ask, and deploy/nats may do with one.
func TestAnswersGoAnywhereInAnAccount(t *testing.T) {
	only := &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_publisher.>"}},
	}
	g := &guarded{url: startServer(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Users: []*server.User{{Username: "root", Password: "root"}, {Username: "publisher", Password: "publisher", Permissions: only}},
	})}
	g.run(t, "root", "init", "--pool", "payments")
	ctx := within(t, time.Minute)
	s := newSpy(t, g)
	heard, err := s.nc.SubscribeSync("$JS.EVENT.ADVISORY.STREAM.DELETED.JOBS_payments")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	m := &nats.Msg{Subject: only.Publish.Allow[0], Reply: "$JS.API.STREAM.DELETE.JOBS_payments"}
	if err := g.as(t, "publisher").PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	if _, err := heard.NextMsgWithContext(ctx); err != nil {
		t.Errorf("the stream is there: %v", err)
	}
}

// TestOneContextIsNoOther: who may read one context by its subject reads no other by what stands in the request.
func TestOneContextIsNoOther(t *testing.T) { oneContextIsNoOther(t, newGuarded(t)) }

func oneContextIsNoOther(t *testing.T, g *guarded) {
	t.Helper()
	ctx := within(t, time.Minute)
	s := newSpy(t, g)
	if _, err := s.js.Publish(ctx, "$KV.payments.cus_43", []byte("of cus_43")); err != nil {
		t.Fatal(err)
	}
	nc := g.as(t, "publisher")
	for _, body := range []string{
		`{"seq":1}`, `{"last_by_subj":"$KV.payments.cus_43"}`, `{"seq":1,"next_by_subj":"$KV.payments.>"}`, `{"multi_last":["$KV.payments.>"]}`, `{"batch":10,"seq":1}`,
	} {
		m, err := nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_42", []byte(body))
		if err != nil || m.Header.Get("Status") == "" || strings.Contains(string(m.Data), "cus_43") {
			t.Errorf("%s: %v, %+v", body, err, m)
		}
	}
	traced := nats.NewMsg("payments.cus_42")
	traced.Header.Set("Nats-Trace-Dest", "$KV.payments.cus_43")
	traced.Header.Set("Nats-Trace-Only", "true")
	before := s.look(ctx)
	if err := nc.PublishMsg(traced); err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before["KV_payments"], s.look(ctx)["KV_payments"]); diff != "" {
		t.Errorf("a trace is written to another's context:\n%s", diff)
	}
}
