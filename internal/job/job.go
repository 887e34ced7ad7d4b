// Package job is what travels through Thence: jobs, calls, answers, commits, dead letters, and the subjects they
// travel on. It holds the wire format and nothing else: types that encode to what subjects.md shows, parsers that say
// what is wrong with what they can't read, and the keys that prove where a message came from.
//
// It uses the standard library only. Package stream puts these on JetStream; worker and dispatcher give them meaning.
package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Headers of a job. NATS compares header names byte for byte, and so does Thence: a name that matches one of these
// only when case is folded is an error, never silently ignored.
const (
	HeaderID       = "Nats-Msg-Id"     // the job's id, and the stream's key for recognising a repeat
	HeaderScript   = "Thence-Script"   // run this script of the library; the body is its data
	HeaderCaller   = "Thence-Caller"   // who says to have published the job
	HeaderDeadline = "Thence-Deadline" // RFC 3339; a job that has not begun by then becomes a dead letter
	HeaderParent   = "Thence-Parent"   // id of the job that asked for this one; counts only with a proof
	HeaderSource   = "Thence-Source"   // the effect that this job is: <pool>.<context>.<sequence>-<index>
	HeaderCall     = "Thence-Call"     // the call that this job answers
	HeaderRelease  = "Thence-Release"  // the release of scripts that its parent ran on, and it runs on; counts only with a proof
	HeaderProof    = "Thence-Proof"    // shows that a worker of this installation made the message
	HeaderType     = "Content-Type"    // what the body is
	HeaderTrace    = "traceparent"     // W3C trace context, travels along
)

// Content types that Thence gives a meaning of its own.
const (
	TypeJSON   = "application/json"
	TypeText   = "text/plain"
	TypeSource = "text/x-tengo"
	TypeInline = "application/vnd.thence.job+json"    // source and data in one body: see Inline
	TypeAnswer = "application/vnd.thence.answer+json" // see Answer; counts only with a proof
	TypeWake   = "application/vnd.thence.wake"        // runs nothing: its context is looked at, and what waits there goes on
)

// Sizes. What must be published is checked against them before anything is committed.
const (
	MaxJob    = 512 << 10 // bytes of a job or call message, headers and body
	MaxKept   = 32 << 10  // bytes of input kept in a report; of larger ones the digest
	MaxCalls  = 1000      // open calls of a context
	MaxMarks  = 1000      // sources that a context remembers
	MaxRecent = 256       // callers' ids that a context remembers
	maxID     = 256
	maxCaller = 32 + 1 + 128 // as long as a pool and a context: that is who dispatches, when a script does
)

// Message is a message as the stream holds it.
type Message struct {
	Subject  string
	Sequence uint64
	Time     time.Time
	Header   map[string][]string
	Data     []byte
	Broken   string // why the header could not be read; empty: it could
}

// Get returns the first value of a header, by its exact name.
func (m Message) Get(name string) string {
	if v := m.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// Job is a message that could be read as one.
type Job struct {
	ID       string // of a caller's job its Nats-Msg-Id, or "seq-<sequence>"; of an effect what it is
	CallerID string // Nats-Msg-Id as a caller set it; empty for effects and when there was none
	Address  Address
	Sequence uint64
	Time     time.Time // when the stream took it
	Caller   string
	Script   string // library script; empty for source, and for an answer that no script takes
	Source   string // inline Tengo source
	Name     string // what errors call the source
	Data     []byte // JSON; nil: none
	Deadline time.Time
	Parent   string
	Release  string // to run on; empty: the current one
	Trace    string

	Origin Origin  // set on effects
	Call   string  // id of the call that this answers
	Answer *Answer // set on answers, and on what tells a script of one again
}

// Inline is the body of a job that brings both its source and its data.
type Inline struct {
	Source string          `json:"source"`
	Name   string          `json:"name,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// ErrMalformed is wrapped by what Parse returns for a message that can't be a job, whoever sent it.
var ErrMalformed = errors.New("malformed job")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// Parse reads a message as a job. It does not check proofs: see [Keyring.Verify].
func Parse(m Message) (Job, error) {
	j := Job{Sequence: m.Sequence, Time: m.Time}
	var err error
	if j.Address, err = ParseAddress(m.Subject); err != nil {
		return j, malformed("%v", err)
	}
	if m.Broken != "" {
		return j, malformed("%s", m.Broken)
	}
	if err := checkHeaders(m.Header); err != nil {
		return j, err
	}
	j.Caller, j.Script, j.Parent, j.Release = m.Get(HeaderCaller), m.Get(HeaderScript), m.Get(HeaderParent), m.Get(HeaderRelease)
	j.Call, j.Trace = m.Get(HeaderCall), trace(m.Header)
	if err := j.identify(m); err != nil {
		return j, err
	}
	if j.Script != "" && !ValidScript(j.Script) {
		return j, malformed("header %s: %q is no script name (letters, digits and _, at most 100)", HeaderScript, j.Script)
	}
	if len(j.Caller) > maxCaller || !printable(j.Caller) {
		return j, malformed("header %s: want at most %d printable characters", HeaderCaller, maxCaller)
	}
	if j.Release != "" && !ValidRelease(j.Release) {
		return j, malformed("header %s: %q is no release: want 12 of 0-9 a-f", HeaderRelease, j.Release)
	}
	if d := m.Get(HeaderDeadline); d != "" {
		if j.Deadline, err = time.Parse(time.RFC3339Nano, d); err != nil {
			return j, malformed("header %s: %q is no RFC 3339 time, such as 2026-01-02T15:04:05Z", HeaderDeadline, d)
		}
	}
	err = j.readBody(m)
	return j, err
}

// identify works out what the job's id is: whose effect it is, or what its caller called it.
func (j *Job) identify(m Message) error {
	source, id := m.Get(HeaderSource), m.Get(HeaderID)
	switch {
	case source != "" && j.Call != "":
		return malformed("headers %s and %s exclude each other", HeaderSource, HeaderCall)
	case source != "":
		var err error
		if j.Origin, err = ParseOrigin(source); err != nil {
			return malformed("header %s: %v", HeaderSource, err)
		}
		j.ID = source
	case j.Call != "":
		if !validCallID(j.Call) {
			return malformed("header %s: %q is no call id", HeaderCall, j.Call)
		}
		j.ID = "answer-" + j.Call
	case id != "":
		if len(id) > maxID || !printable(id) {
			return malformed("header %s: want at most %d printable characters", HeaderID, maxID)
		}
		j.ID, j.CallerID = id, id
	default:
		j.ID = fmt.Sprintf("seq-%d", m.Sequence)
	}
	return nil
}

// readBody reads the body as what its content type, or the lack of one, says it is.
func (j *Job) readBody(m Message) error {
	typ, err := contentType(m.Get(HeaderType))
	if err != nil {
		return err
	}
	switch {
	case typ == TypeAnswer:
		return j.readAnswer(m.Data)
	case j.Call != "":
		return malformed("header %s without %s: %s", HeaderCall, HeaderType, TypeAnswer)
	case typ == TypeWake && (j.Script != "" || len(m.Data) > 0):
		return malformed("%s says %s, which runs nothing: leave out %s and the body", HeaderType, TypeWake, HeaderScript)
	case typ == TypeWake:
		return nil
	case j.Script != "":
		j.Data, err = readData(typ, m.Data)
		return err
	default:
		return j.readSource(typ, m.Data)
	}
}

func (j *Job) readAnswer(body []byte) error {
	if j.Call == "" && !j.Origin.Valid() && j.Parent == "" {
		return malformed("an answer without %s, %s or %s", HeaderCall, HeaderSource, HeaderParent)
	}
	j.Answer = new(Answer)
	if problem := jsonProblem(body, j.Answer); problem != "" {
		return malformed("the answer is not JSON: %s", problem)
	}
	j.Source = j.Answer.Source
	return nil
}

func readData(typ string, body []byte) ([]byte, error) {
	switch typ {
	case TypeJSON:
		if problem := jsonProblem(body, new(json.RawMessage)); problem != "" {
			return nil, malformed("%s says %s, but the body is not JSON: %s", HeaderType, TypeJSON, problem)
		}
		return body, nil
	case TypeText:
		return text(body)
	case "":
		if len(body) == 0 {
			return nil, nil
		}
		if json.Valid(body) && utf8.Valid(body) {
			return body, nil
		}
		return text(body)
	default:
		return nil, malformed("header %s: a script's data is %s or %s, not %q", HeaderType, TypeJSON, TypeText, typ)
	}
}

func (j *Job) readSource(typ string, body []byte) error {
	switch typ {
	case TypeInline:
		var in Inline
		if problem := jsonProblem(body, &in); problem != "" {
			return malformed("%s says %s, but the body is not: %s", HeaderType, TypeInline, problem)
		}
		j.Source, j.Name, j.Data = in.Source, in.Name, in.Data
	case "", TypeText, TypeSource:
		j.Source = string(body)
	default:
		return malformed("header %s is %q and there is no %s: without a script's name the body is Tengo source (%s)",
			HeaderType, typ, HeaderScript, TypeSource)
	}
	if strings.TrimSpace(j.Source) == "" {
		return malformed("nothing to run: the body is empty and there is no %s", HeaderScript)
	}
	if !utf8.ValidString(j.Source) {
		return malformed("the source is not UTF-8")
	}
	return nil
}

func text(body []byte) ([]byte, error) {
	if !utf8.Valid(body) {
		return nil, malformed("the body is neither JSON nor UTF-8 text")
	}
	return json.Marshal(string(body))
}

func contentType(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	typ, params, err := mime.ParseMediaType(value)
	if err != nil {
		return "", malformed("header %s: %q: %v", HeaderType, value, err)
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") && !strings.EqualFold(cs, "us-ascii") {
		return "", malformed("header %s: charset %q: want utf-8", HeaderType, cs)
	}
	return typ, nil
}

// jsonProblem decodes body into v, and says why that can't be done; empty when it can. Bytes that are not UTF-8 are
// refused, as encoding/json lets them pass in raw values, and nothing that holds them is JSON any more.
func jsonProblem(body []byte, v any) string {
	if !utf8.Valid(body) {
		return "it is not UTF-8"
	}
	if err := json.Unmarshal(body, v); err != nil {
		return err.Error()
	}
	return ""
}

// trace finds the trace header in either of the cases in which it is written in practice.
func trace(h map[string][]string) string {
	for _, name := range []string{HeaderTrace, "Traceparent"} {
		if v := h[name]; len(v) > 0 && len(v[0]) <= 128 && printable(v[0]) {
			return v[0]
		}
	}
	return ""
}

func printable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}
