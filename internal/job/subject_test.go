package job_test

import (
	"strings"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		kind  string
		valid func(string) bool
		yes   []string
		no    []string
	}{
		{"pool", func(s string) bool { return job.ValidPool(s) == nil }, []string{"payments", "A-b_9", strings.Repeat("a", 32)},
			[]string{"", "a.b", "a b", "ä", strings.Repeat("a", 33), "a\n", job.KeysBucket, "_INBOX", "$KV", "*", ">"}},
		{"context", func(s string) bool { return job.ValidContext(s) == nil }, []string{"cus_42", "a/b=c-d", strings.Repeat("a", 128)},
			[]string{"", "a.b", "a b", "ä", strings.Repeat("a", 129), "a\n", "*", ">", "a:b"}},
		{"script", job.ValidScript, []string{"a", "_a9", "new_create_payment_intent_response", "inline-0123456789abcdef", strings.Repeat("a", 100)},
			[]string{"", "9a", "a-b", "a.b", "../a", "inline-0123", "inline-0123456789ABCDEF", strings.Repeat("a", 101), "a\n"}},
		{"service", job.ValidService, []string{"stripe", "a-b_9", strings.Repeat("a", 32)},
			[]string{"", "Stripe", "9a", "a.b", "*", strings.Repeat("a", 33), "a\n"}},
	} {
		for _, name := range test.yes {
			if !test.valid(name) {
				t.Errorf("%s %q is refused", test.kind, name)
			}
		}
		for _, name := range test.no {
			if test.valid(name) {
				t.Errorf("%s %q is taken", test.kind, name)
			}
		}
	}
}

func TestSubjects(t *testing.T) {
	a := job.Address{Pool: "payments", Context: "cus_42"}
	for got, want := range map[string]string{
		a.String(): "payments.cus_42", a.CallSubject("stripe"): "payments.cus_42.call.stripe", a.RetrySubject("12-3"): "payments.cus_42.retry.12-3",
		a.DeadSubject("12"): "payments.cus_42.dead.12", a.ContextSubject(): "$KV.payments.cus_42",
		job.JobsStream("payments"): "JOBS_payments", job.CallsStream("payments"): "CALLS_payments", job.DeadStream("payments"): "DEAD_payments",
		job.ContextsStream("payments"): "KV_payments", anOrigin.String(): "payments.cus_42.12-3", anOrigin.ID(): "12-3",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got, err := job.ParseCallSubject("payments.cus_42.call.stripe"); err != nil || got != a {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"payments.cus_42", "payments.cus_42.dead.1", "payments.cus!.call.stripe", "payments.a.call.b.c", ""} {
		if _, err := job.ParseCallSubject(bad); err == nil {
			t.Errorf("%q is taken for a call's subject", bad)
		}
	}
	if (job.Origin{}).Valid() || !anOrigin.Valid() {
		t.Error("an origin is valid when it names something")
	}
}

func TestParseEffectID(t *testing.T) {
	seq, index, err := job.ParseEffectID("18446744073709551615-999999")
	if err != nil || seq != 1<<64-1 || index != 999999 {
		t.Errorf("got %d, %d, %v", seq, index, err)
	}
	for _, bad := range []string{"", "1", "1-", "-1", "0-0", "01-0", "1-00", "1-1000000", "18446744073709551616-0", "1-0-0", "+1-0", "1-0\n"} {
		if _, _, err := job.ParseEffectID(bad); err == nil {
			t.Errorf("%q is taken for an effect's id", bad)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"payments.cus_42", "a.b.c", ".", "a.", "a.*", "_INBOX.x", "a.b!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := job.ParseAddress(s); err == nil && a.String() != s {
			t.Errorf("%q came back as %q", s, a)
		}
	})
}

func FuzzParseOrigin(f *testing.F) {
	for _, s := range []string{"payments.cus_42.12-3", "a.b.0-0", "a.b.01-1", "a.b", "", "a.b.18446744073709551616-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if o, err := job.ParseOrigin(s); err == nil && (o.String() != s || !o.Valid()) {
			t.Errorf("%q came back as %q", s, o)
		}
	})
}
