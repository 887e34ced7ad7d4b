package job_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/thence-dev/thence/internal/job"
)

var anOrigin = job.Origin{Address: job.Address{Pool: "payments", Context: "cus_42"}, Sequence: 12, Index: 3}

// joined is a keyring with the keys of several, the first signing.
func joined(t *testing.T, rings ...job.Keyring) job.Keyring {
	t.Helper()
	var keys []json.RawMessage
	for _, ring := range rings {
		var some []json.RawMessage
		encoded, err := json.Marshal(ring)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(encoded, &some); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, some...)
	}
	encoded, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	var out job.Keyring
	if err := json.Unmarshal(encoded, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func signed(k job.Keyring) job.Message {
	m := message(`{"status":200}`, "Thence-Script: s", "Thence-Caller: stripe", "Thence-Deadline: d", "Thence-Parent: p", "Thence-Source: a.b.1-0",
		"Thence-Call: 12-3", "Thence-Release: 0123456789ab", answer)
	k.Sign(&m)
	return m
}

// Rule 5: a proof covers where the message goes, what it says it is, and its body.
func TestProofCovers(t *testing.T) {
	keys := job.NewKeyring()
	if err := keys.Verify(signed(keys)); err != nil {
		t.Fatalf("a signed message: %v", err)
	}
	var bare job.Message
	keys.Sign(&bare)
	if err := keys.Verify(bare); err != nil {
		t.Errorf("a signed message without headers: %v", err)
	}
	tamper := map[string]func(*job.Message){
		"subject":  func(m *job.Message) { m.Subject = "payments.cus_43" },
		"body":     func(m *job.Message) { m.Data = []byte(`{"status":201}`) },
		"no proof": func(m *job.Message) { delete(m.Header, job.HeaderProof) },
		"empty":    func(m *job.Message) { m.Header[job.HeaderProof] = []string{""} },
		"cut":      func(m *job.Message) { m.Header[job.HeaderProof][0] = m.Header[job.HeaderProof][0][:10] },
		"no text":  func(m *job.Message) { m.Header[job.HeaderProof] = []string{"*"} },
		"swap": func(m *job.Message) {
			m.Header[job.HeaderScript], m.Header[job.HeaderCaller] = m.Header[job.HeaderCaller], m.Header[job.HeaderScript]
		},
		"moved": func(m *job.Message) {
			m.Header[job.HeaderScript], m.Header[job.HeaderCaller] = []string{"ss"}, []string{"tripe"}
		},
	}
	for _, name := range []string{
		job.HeaderScript, job.HeaderCaller, job.HeaderDeadline, job.HeaderParent, job.HeaderSource, job.HeaderCall, job.HeaderRelease, job.HeaderType,
	} {
		tamper[name+" changed"] = func(m *job.Message) { m.Header[name] = []string{m.Get(name) + "x"} }
		tamper[name+" removed"] = func(m *job.Message) { delete(m.Header, name) }
	}
	for name, change := range tamper {
		m := signed(keys)
		change(&m)
		if err := keys.Verify(m); !errors.Is(err, job.ErrNoProof) {
			t.Errorf("%s: got %v, want ErrNoProof", name, err)
		}
	}
	m := signed(keys)
	m.Header["Nats-Msg-Id"], m.Header["traceparent"], m.Header["Nats-Scheduler"] = []string{"1"}, []string{"2"}, []string{"3"}
	if err := keys.Verify(m); err != nil {
		t.Errorf("headers that a server or a tracer adds: %v", err)
	}
	if err := job.NewKeyring().Verify(signed(keys)); !errors.Is(err, job.ErrNoProof) {
		t.Errorf("another installation's proof: got %v, want ErrNoProof", err)
	}
	if err := (job.Keyring{}).Verify(signed(keys)); !errors.Is(err, job.ErrNoProof) {
		t.Errorf("without keys: got %v, want ErrNoProof", err)
	}
}

// Rule 5: two keys may be valid, and what was committed under the old one keeps its ids.
func TestRotation(t *testing.T) {
	old, next := job.NewKeyring(), job.NewKeyring()
	both := joined(t, next, old)
	if both.Signing() != next.Signing() || next.Signing() == old.Signing() {
		t.Errorf("signing key is %s; old %s, next %s", both.Signing(), old.Signing(), next.Signing())
	}
	for name, ring := range map[string]job.Keyring{"old": old, "next": next} {
		if err := both.Verify(signed(ring)); err != nil {
			t.Errorf("signed with the %s key: %v", name, err)
		}
	}
	if err := old.Verify(signed(both)); !errors.Is(err, job.ErrNoProof) {
		t.Errorf("the old key verifies the new one's proof: %v", err)
	}
	id := old.Signing()
	if got, want := both.MessageID(id, job.EffectCall, anOrigin), old.MessageID(id, job.EffectCall, anOrigin); got != want {
		t.Errorf("message id after rotation: %s, before: %s", got, want)
	}
	if got, want := both.IdempotencyKey(id, anOrigin), old.IdempotencyKey(id, anOrigin); got != want {
		t.Errorf("idempotency key after rotation: %s, before: %s", got, want)
	}
	if both.MessageID(both.Signing(), job.EffectCall, anOrigin) == both.MessageID(id, job.EffectCall, anOrigin) {
		t.Error("both keys give the same id")
	}
}

// Rule 5: message ids, proofs and idempotency keys are of different kinds; none can be had from another.
func TestIDsDiffer(t *testing.T) {
	keys := job.NewKeyring()
	id := keys.Signing()
	seen := map[string]string{}
	add := func(what, value string) {
		t.Helper()
		for other, name := range seen {
			if strings.HasPrefix(other, value) || strings.HasPrefix(value, other) {
				t.Errorf("%s and %s are alike: %s", what, name, value)
			}
		}
		seen[value] = what
	}
	for _, kind := range []string{job.EffectCall, job.EffectJob, job.EffectDead, "answer"} {
		add(kind, keys.MessageID(id, kind, anOrigin))
	}
	add("idempotency key", keys.IdempotencyKey(id, anOrigin))
	other := anOrigin
	other.Index++
	add("another index", keys.MessageID(id, job.EffectCall, other))
	add("another index's key", keys.IdempotencyKey(id, other))
	other = anOrigin
	other.Context = "cus_43"
	add("another context", keys.MessageID(id, job.EffectCall, other))
	add("another installation", job.NewKeyring().MessageID(id, job.EffectCall, anOrigin))
	if again := keys.MessageID(id, job.EffectCall, anOrigin); seen[again] != job.EffectCall {
		t.Error("an effect's id is not the same each time")
	}
}

func TestKeyringJSON(t *testing.T) {
	keys := job.NewKeyring()
	if err := joined(t, keys).Verify(signed(keys)); err != nil {
		t.Errorf("a keyring that was stored: %v", err)
	}
	for value, want := range map[string]string{
		`[]`:                            "no key in the keyring",
		`[{"id":"a","secret":"AAAA"}]`:  `key "a": want an id and at least 32 bytes`,
		`[{"secret":"` + secret + `"}]`: `key "": want an id and at least 32 bytes`,
	} {
		var k job.Keyring
		if err := json.Unmarshal([]byte(value), &k); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", value, err, want)
		}
	}
}

const secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

// Rule 6: recent ids are kept as digests of 16 characters each.
func TestDigest(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, id := range []string{"", "a", "order-77", long} {
		if got := job.Digest(id); len(got) != 16 {
			t.Errorf("%q: %q has %d characters, want 16", id, got, len(got))
		}
	}
	if job.Digest("a") == job.Digest("b") || job.Digest(long) == job.Digest(long[1:]) {
		t.Error("digests do not tell ids apart")
	}
}
