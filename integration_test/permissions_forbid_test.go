package integration_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// forbidden are subjects on which a role must not publish. JetStream's are requests that the role could otherwise make.
var forbidden = map[string][]string{
	"publisher": {
		"payments.cus_43", "other.cus_42", "$JS.API.DIRECT.GET.KV_payments.$KV.payments.cus_43", "$JS.API.DIRECT.GET.KV_payments", "$JS.API.DIRECT.GET.DEAD_payments",
		"$JS.API.DIRECT.GET.JOBS_payments", "$JS.API.STREAM.INFO.KV_payments", "$JS.API.STREAM.INFO.JOBS_payments", "$JS.API.CONSUMER.CREATE.KV_payments",
		"$JS.API.CONSUMER.CREATE.KV_payments.x.$KV.payments.cus_42", "$JS.API.STREAM.MSG.GET.KV_payments", "$JS.API.STREAM.MSG.GET.JOBS_payments",
		"$JS.FC.KV_payments.x.1.2",
	},
	"caller": {
		"$JS.API.CONSUMER.CREATE.DEAD_payments.x", "$JS.API.CONSUMER.CREATE.JOBS_payments.x", "$JS.API.CONSUMER.MSG.NEXT.KV_payments.x",
		"$JS.API.STREAM.INFO.CALLS_payments", "$JS.API.STREAM.MSG.GET.CALLS_payments", "$JS.API.STREAM.MSG.GET.DEAD_payments", "other.cus_42",
	},
	"worker": {
		"other.cus_42", "$KV.other.cus_42", "$JS.API.STREAM.MSG.DELETE.DEAD_payments", "$JS.API.CONSUMER.DELETE.CALLS_payments.call_api",
		"$JS.API.CONSUMER.CREATE.JOBS_payments.x", "$JS.API.STREAM.PURGE.CALLS_payments", "$JS.API.STREAM.MSG.DELETE.KV_payments",
	},
	"setup": {
		"payments.cus_42", "$KV.payments.cus_42", "payments.cus_42.call.api", "$JS.API.STREAM.MSG.GET.KV_payments", "$JS.API.STREAM.MSG.GET.JOBS_payments",
		"$JS.API.CONSUMER.CREATE.KV_payments.x",
	},
	"on-call": {
		"payments.cus_42.call.api", "payments.cus_42.dead.1", "$KV.thence-keys.keys", "$JS.API.CONSUMER.CREATE.JOBS_payments.x",
		"$JS.API.STREAM.PURGE.DEAD_payments", "$JS.API.STREAM.PURGE.KV_payments", "$JS.API.STREAM.MSG.DELETE.KV_payments", "$JS.API.CONSUMER.DELETE.CALLS_payments.call_api",
	},
	"console": {
		"payments.cus_42", "$JS.API.STREAM.MSG.DELETE.DEAD_payments", "$JS.API.CONSUMER.CREATE.JOBS_payments.x", "$JS.API.CONSUMER.CREATE.CALLS_payments.x",
		"$JS.API.CONSUMER.PAUSE.CALLS_payments.call_api", "$JS.API.STREAM.MSG.GET.JOBS_payments", "$JS.API.STREAM.MSG.GET.CALLS_payments",
	},
}

// Nobody here may do these.
var forbiddenToAll = []string{
	"$JS.API.STREAM.DELETE.JOBS_payments", "$JS.API.STREAM.PURGE.JOBS_payments", "$JS.API.STREAM.RESTORE.KV_payments", "$JS.API.STREAM.SNAPSHOT.KV_payments",
	"$JS.API.STREAM.SNAPSHOT.KV_thence-keys", "$JS.API.STREAM.LIST", "$JS.API.STREAM.LEADER.STEPDOWN.JOBS_payments", "$JS.API.STREAM.PEER.REMOVE.JOBS_payments",
	"$JS.API.CONSUMER.NAMES.KV_payments", "$JS.API.CONSUMER.DELETE.JOBS_payments.workers", "$JS.API.CONSUMER.DURABLE.CREATE.JOBS_payments.workers",
	"$JS.API.CONSUMER.CREATE.KV_thence-keys.x", "$JS.API.CONSUMER.UNPIN.JOBS_payments.workers", "$JS.API.CONSUMER.RESET.JOBS_payments.workers",
	"$JS.API.CONSUMER.LEADER.STEPDOWN.JOBS_payments.workers", "$JS.API.CONSUMER.PAUSE.JOBS_payments.workers", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.ACCOUNT.PURGE.THENCE",
	"$JS.API.STREAM.PURGE.RELEASES_payments", "$JS.API.STREAM.MSG.DELETE.RELEASES_payments", "$JS.API.STREAM.DELETE.RELEASES_payments",
	"$KV.thence-keys.other", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.THENCE.CONNZ",
}

// forbiddenBeside are requests that nobody may make but those who are named.
var forbiddenBeside = []struct {
	may      []string
	subjects []string
}{
	{[]string{"worker"}, []string{
		"payments.cus_42.call.stripe", "payments.cus_42.retry.1-0", "payments.cus_42.sent.1-0", "payments.cus_42.dead.1", "payments.rate.api", "payments.told.x",
		"$O.payments-bodies.C.x", "$JS.API.CONSUMER.MSG.NEXT.JOBS_payments.workers", "$JS.API.CONSUMER.MSG.NEXT.CALLS_payments.call_api",
		"$JS.ACK.JOBS_payments.workers.1.1.1.1.0", "$JS.ACK.CALLS_payments.call_api.1.1.1.1.0", "$JS.API.STREAM.PURGE.OBJ_payments-bodies",
	}},
	{[]string{"setup"}, []string{"$KV.thence-keys.keys", "$JS.API.STREAM.CREATE.other", "$JS.API.STREAM.UPDATE.JOBS_payments", "$JS.API.CONSUMER.CREATE.JOBS_payments.workers"}},
	{[]string{"setup", "on-call"}, []string{"$JS.API.INFO"}},
	{[]string{"worker", "setup", "on-call"}, []string{"payments.release.current", "payments.release.0123456789ab", "payments.release.0123456789ab-0", "$JS.API.STREAM.MSG.GET.RELEASES_payments"}},
	{[]string{"worker", "on-call"}, []string{"$JS.API.CONSUMER.CREATE.RELEASES_payments.x"}},
	{[]string{"on-call"}, []string{"$JS.API.STREAM.NAMES", "payments.ask.services", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$JS.API.DIRECT.GET.KV_thence-keys.$KV.thence-keys.keys"}},
	{[]string{"worker", "on-call"}, []string{"$KV.payments.cus_42"}},
	{[]string{"worker", "setup", "on-call"}, []string{"$JS.API.STREAM.MSG.GET.KV_thence-keys", "$JS.API.STREAM.INFO.KV_thence-keys", "$JS.API.CONSUMER.INFO.CALLS_payments.call_api"}},
}

// TestPermissionsForbid tries what each role must not do. The server refuses all of it.
func TestPermissionsForbid(t *testing.T) { permissionsForbid(t, newGuarded(t)) }

func permissionsForbid(t *testing.T, g *guarded) {
	t.Helper()
	for role, subjects := range forbidden {
		t.Run(role, func(t *testing.T) {
			nc := g.as(t, role)
			subjects = append(slices.Clone(subjects), forbiddenToAll...)
			for _, f := range forbiddenBeside {
				if !slices.Contains(f.may, role) {
					subjects = append(subjects, f.subjects...)
				}
			}
			for _, subject := range subjects {
				denied(t, nc, subject)
			}
			for _, subject := range []string{"_INBOX.>", "_INBOX_other.>", "payments.>", "$KV.payments.>", "payments.cus_42", "payments.*.dead.*", "$KV.payments.cus_42", "$KV.thence-keys.>", "$JS.>", "$JS.API.>", "$JS.ACK.>", "_R_.>", "$SYS.>", ">"} {
				deniedToHear(t, nc, subject)
			}
		})
	}
}

// denied checks that the server refuses a publication.
func denied(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	refused := make(chan error, 10)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if err := errors.Join(nc.Publish(subject, []byte("{")), nc.Flush()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s: got %v", subject, err)
		}
	case <-time.After(time.Minute):
		t.Errorf("it may publish on %s", subject)
	}
}

// deniedToHear checks that the server refuses a subscription.
func deniedToHear(t *testing.T, nc *nats.Conn, subject string) {
	t.Helper()
	refused := make(chan error, 10)
	nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if _, err := nc.SubscribeSync(subject); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+subject+`"`) {
			t.Errorf("%s: got %v", subject, err)
		}
	case <-time.After(time.Minute):
		t.Errorf("it may subscribe to %s", subject)
	}
}
