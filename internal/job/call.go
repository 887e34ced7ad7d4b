package job

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"
)

// Text is bytes that are nearly always text. In JSON it is a string, or {"base64": "..."} when it is not UTF-8 or would
// grow by more than base64 does.
type Text []byte

// Encode encodes v as JSON for people to read: <, > and & stay as they are.
func Encode(v any) ([]byte, error) {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer func() {
		if b.Cap() <= maxBuffer {
			buffers.Put(b)
		}
	}()
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// buffers are what Encode writes to. What it returns takes no more than it has: an outbox waits with a thousand of them.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// maxBuffer bounds what is kept of a buffer, in bytes.
const maxBuffer = 64 << 10

type encoded struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.Valid(t) {
		if s, err := Encode(string(t)); err != nil || len(s) <= len(t)*4/3+64 {
			return s, err
		}
	}
	return json.Marshal(encoded{t})
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = Text(s)
		return nil
	}
	var e encoded
	err := json.Unmarshal(b, &e)
	*t = e.Base64
	return err
}

// HeaderLine is one line of an HTTP request's header. With Secret, the line is Value followed by the secret of that
// name, which is put in where the request is sent and stands in no message.
type HeaderLine struct {
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`
	Secret string `json:"secret,omitempty"`
}

// Request is an HTTP request as a script asked for it.
type Request struct {
	Method         string        `json:"method"`
	URL            string        `json:"url"`
	Header         []HeaderLine  `json:"header,omitempty"`
	Body           Text          `json:"body,omitempty"`
	Timeout        time.Duration `json:"timeout_ns,omitempty"`      // one try; zero: the service's
	IdempotencyKey string        `json:"idempotency_key,omitempty"` // the script's own; empty: ours
}

// OpenCall is a call whose answer has not been taken yet, as the context keeps it.
type OpenCall struct {
	Service   string          `json:"service"`
	Operation string          `json:"operation,omitempty"`
	Then      string          `json:"then,omitempty"`
	Catch     string          `json:"catch,omitempty"`
	Tag       json.RawMessage `json:"tag,omitempty"`
	Parent    string          `json:"parent"`
	Release   string          `json:"release,omitempty"` // that the job ran on which asked for the call, and its answer runs on; empty: the current one
	Due       time.Time       `json:"due,omitzero"`      // of a timer
}

// Call is the message that waits for a performer. Retries travel in it too.
type Call struct {
	ID       string    `json:"id"`
	Service  string    `json:"service"`
	Revision uint64    `json:"revision"` // of the commit that opened the call
	Key      string    `json:"key"`      // Idempotency-Key, the same on every try
	Parent   string    `json:"parent"`
	Request  Request   `json:"request"`
	Attempt  int       `json:"attempt,omitempty"` // tries that have ended
	First    time.Time `json:"first,omitzero"`    // when the first try began
	Last     string    `json:"last,omitempty"`    // how the last try ended
	Trace    string    `json:"trace,omitempty"`

	From Address `json:"-"` // the context that waits for it, as the message's subject has it
}

// Answer is what came of a call: a response, or a failure.
type Answer struct {
	Status   int               `json:"status,omitempty"`
	Header   map[string]string `json:"headers,omitempty"`
	Body     Text              `json:"body,omitempty"`
	Attempts int               `json:"attempts"`
	Duration float64           `json:"duration_ms"` // of the last try
	Failure  *Failure          `json:"failure,omitempty"`
	Stored   *Stored           `json:"stored,omitempty"` // where the body is, or the body that Body is a part of

	// Set only where a call's own error script is told that its response script failed.
	Tag       json.RawMessage `json:"tag,omitempty"`
	Operation string          `json:"operation,omitempty"`
	Source    string          `json:"source,omitempty"`
}

// Stored refers to a body that is too large for a job: an object of the pool's bucket of bodies.
type Stored struct {
	Name   string `json:"name"` // of the object: see [Address.BodyName]
	Size   int64  `json:"size"`
	Digest string `json:"digest"`           // SHA-256= and the digest in base64url
	Type   string `json:"type,omitempty"`   // the body's Content-Type
	Offset int64  `json:"offset,omitempty"` // of a part: where it begins
	Next   int64  `json:"next,omitempty"`   // of a part: where the next one begins; 0: it was the last
}

// MaxPart is the most that is read of a stored body at a time, in bytes.
const MaxPart = 256 << 10

// Failure is the one shape of everything that can go wrong with a call. The status, the attempts and the body stand
// beside it in the answer.
type Failure struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
}

// Types of failure that are ours; those of an API (Stripe: api_error, card_error, idempotency_error,
// invalid_request_error) are passed on as they are.
const (
	FailureTimeout    = "timeout"         // no answer in time, on the last try
	FailureConnection = "connection"      // the network, TLS or the answer's form
	FailureHTTP       = "http_error"      // a status of 300 or more without a type of its own
	FailureTooLarge   = "too_large"       // the answer is over the limit
	FailureBlocked    = "blocked"         // the address or the secret is not allowed
	FailureUnknown    = "outcome_unknown" // it may have been carried out, and trying again is no longer safe
	FailureRejected   = "rejected"        // the request can't be sent as it is
	FailureScript     = "script_error"    // the response script failed
	FailureGone       = "gone"            // the body is not kept any more
)
