package job

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Address is where a job goes: a context of a worker pool.
type Address struct {
	Pool    string
	Context string
}

// KeysBucket is the key-value bucket that holds the installation's keys. No pool may have its name.
const KeysBucket = "thence-keys"

var (
	inlineName  = lazy(`^inline-[0-9a-f]{16}$`)
	serviceName = lazy(`^[a-z][a-z0-9_-]{0,31}$`)
	callID      = lazy(`^[1-9][0-9]{0,19}-(0|[1-9][0-9]{0,5})$`)
)

// lazy compiles an expression when it is first used: a program that is to start quickly may never need it.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// made tells whether a name is 1 to longest of the letters and digits of ASCII and a few others. Every job's subject
// is checked by it.
func made(name string, longest int, others string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(others, c) >= 0:
		default:
			return false
		}
	}
	return name != "" && len(name) <= longest
}

// ValidPool tells why name can't be a pool's name; nil when it can.
func ValidPool(name string) error {
	if !made(name, 32, "_-") {
		return fmt.Errorf("worker pool %q: a name is 1 to 32 of a-z A-Z 0-9 _ -", name)
	}
	if name == "_INBOX" {
		return fmt.Errorf("worker pool %q: the name is taken by the answers to requests", name)
	}
	if name == KeysBucket {
		return fmt.Errorf("worker pool %q: the name is taken by the bucket of the installation's keys", name)
	}
	return nil
}

// ValidContext tells why name can't be a context's name; nil when it can. A context is a key of the pool's bucket,
// hence what NATS allows in a key (ADR-8), less the dot.
func ValidContext(name string) error {
	if !made(name, 128, "_=/-") {
		return fmt.Errorf("context %q: a name is 1 to 128 of a-z A-Z 0-9 _ = / -", name)
	}
	return nil
}

// ValidScript tells whether name can be a script's name.
func ValidScript(name string) bool {
	return made(name, 100, "_") && (name[0] < '0' || name[0] > '9') || inlineName().MatchString(name)
}

// ValidService tells whether name can be a service's name.
func ValidService(name string) bool { return serviceName().MatchString(name) }

func validCallID(id string) bool { return callID().MatchString(id) }

// BodyName is the name of the object that a call's body is stored as. A context has no dot, so that no two calls have
// the same one.
func (a Address) BodyName(call string) string { return a.Context + "." + call }

// ParseAddress reads `<pool>.<context>`. The context may be one that no bucket can hold: see [ValidContext].
func ParseAddress(subject string) (Address, error) {
	pool, context, ok := strings.Cut(subject, ".")
	if !ok || strings.Contains(context, ".") {
		return Address{}, fmt.Errorf("subject %q: want 2 tokens, <pool>.<context>, got %d", subject, strings.Count(subject, ".")+1)
	}
	if context == "" {
		return Address{}, fmt.Errorf("subject %q: the context is empty, want <pool>.<context>", subject)
	}
	if strings.ContainsAny(context, "*> \t\r\n") {
		return Address{}, fmt.Errorf("subject %q: a context has no wildcard and no space", subject)
	}
	return Address{pool, context}, ValidPool(pool)
}

// Valid tells why a job can't go to this address; nil when it can.
func (a Address) Valid() error {
	if err := ValidPool(a.Pool); err != nil {
		return err
	}
	return ValidContext(a.Context)
}

// String is the subject of the context's jobs.
func (a Address) String() string { return a.Pool + "." + a.Context }

// CallSubject is where a call to a service waits to be made.
func (a Address) CallSubject(service string) string { return a.String() + ".call." + service }

// RetrySubject is where the timer of a call's next try stands.
func (a Address) RetrySubject(call string) string { return a.String() + ".retry." + call }

// SentSubject is where it stands that a call which is never tried twice is about to be sent.
func (a Address) SentSubject(call string) string { return a.String() + ".sent." + call }

// DeadSubject is where the dead letter of a job stands; id is the job's sequence, or an effect's "<sequence>-<index>".
// A context that no bucket could hold, and that may be as long as a subject gets, stands there by its digest.
func (a Address) DeadSubject(id string) string {
	if ValidContext(a.Context) != nil {
		sum := sha256.Sum256([]byte(a.Context))
		a.Context = "invalid-" + hex.EncodeToString(sum[:8])
	}
	return a.String() + ".dead." + id
}

// ContextSubject is where the context's commits stand.
func (a Address) ContextSubject() string { return "$KV." + a.Pool + "." + a.Context }

// Names of a pool's streams.

// JobsStream names the work queue of the pool's jobs.
func JobsStream(pool string) string { return "JOBS_" + pool }

// CallsStream names the work queue of the pool's calls and their timers.
func CallsStream(pool string) string { return "CALLS_" + pool }

// DeadStream names the stream of the pool's dead letters.
func DeadStream(pool string) string { return "DEAD_" + pool }

// BodiesBucket names the object store of bodies that are too large for a job.
func BodiesBucket(pool string) string { return pool + "-bodies" }

// BodiesStream names the stream below it.
func BodiesStream(pool string) string { return "OBJ_" + BodiesBucket(pool) }

// ContextsStream names the stream below the pool's bucket of contexts.
func ContextsStream(pool string) string { return "KV_" + pool }

// Origin names an effect: the index-th thing that the job at Sequence of a context asked for.
type Origin struct {
	Address
	Sequence uint64
	Index    int
}

// Valid tells whether the origin names anything.
func (o Origin) Valid() bool { return o.Sequence > 0 }

// ID is the effect's id as scripts and people see it.
func (o Origin) ID() string { return EffectID(o.Sequence, o.Index) }

// String is the origin as a header carries it.
func (o Origin) String() string { return o.Address.String() + "." + o.ID() }

// EffectID is "<sequence>-<index>".
func EffectID(sequence uint64, index int) string {
	return strconv.FormatUint(sequence, 10) + "-" + strconv.Itoa(index)
}

// CompareEffects orders ids of effects: those of earlier jobs first, of one job in the order in which it asked.
func CompareEffects(a, b string) int {
	seqA, indexA, _ := ParseEffectID(a)
	seqB, indexB, _ := ParseEffectID(b)
	return cmp.Or(cmp.Compare(seqA, seqB), cmp.Compare(indexA, indexB), cmp.Compare(a, b))
}

// ParseEffectID reads "<sequence>-<index>".
func ParseEffectID(id string) (sequence uint64, index int, err error) {
	if !validCallID(id) {
		return 0, 0, fmt.Errorf("%q: want <sequence>-<index>", id)
	}
	s, i, _ := strings.Cut(id, "-")
	if sequence, err = strconv.ParseUint(s, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("%q: %q is no sequence", id, s)
	}
	index, err = strconv.Atoi(i)
	return sequence, index, err
}

// ParseOrigin reads <pool>.<context>.<sequence>-<index>.
func ParseOrigin(s string) (Origin, error) {
	at := strings.LastIndexByte(s, '.')
	if at < 0 {
		return Origin{}, fmt.Errorf("%q: want <pool>.<context>.<sequence>-<index>", s)
	}
	a, err := ParseAddress(s[:at])
	if err != nil {
		return Origin{}, err
	}
	seq, index, err := ParseEffectID(s[at+1:])
	if err != nil {
		return Origin{}, err
	}
	return Origin{a, seq, index}, a.Valid()
}

// ParseCallSubject reads <pool>.<context>.call.<service>.
func ParseCallSubject(subject string) (Address, error) {
	part := strings.Split(subject, ".")
	if len(part) != 4 || part[2] != "call" {
		return Address{}, fmt.Errorf("subject %q: want <pool>.<context>.call.<service>", subject)
	}
	a := Address{part[0], part[1]}
	return a, a.Valid()
}
