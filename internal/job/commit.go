package job

import (
	"encoding/json"
	"fmt"
	"time"
)

// Version is that of the commit's form. A worker refuses a commit of a version it does not know.
const Version = 1

// Commit is the whole outcome of one job, and all that is known of a context: one value of the pool's bucket.
type Commit struct {
	Version int                 `json:"v"`
	State   json.RawMessage     `json:"state"`
	Report  Report              `json:"report"`
	Applied uint64              `json:"applied"`           // sequence of the last job that took effect
	Attempt string              `json:"attempt"`           // random: tells the writer's own commit from another's
	Calls   map[string]OpenCall `json:"calls,omitempty"`   // open calls by id
	Outbox  []Effect            `json:"outbox,omitempty"`  // what the job asked for, in order
	Key     string              `json:"key,omitempty"`     // id of the key that the outbox is published under
	Sources map[string]string   `json:"sources,omitempty"` // inline source that an open call names, by its name
	Marks   map[string]Mark     `json:"marks,omitempty"`   // highest effect taken, by the context it came from
	Recent  string              `json:"recent,omitempty"`  // digests of callers' ids, oldest first, 16 characters each
	Tries   *Tries              `json:"tries,omitempty"`   // of a job that may kill workers
	Held    *Held               `json:"held,omitempty"`    // the context's jobs wait until an operator decides
	Skip    *Skip               `json:"skip,omitempty"`    // the next job is to end as a dead letter, unrun
	Renewed uint64              `json:"renewed,omitempty"` // sequence of a job that failed and held the context: it runs on the current release
	Deed    *Deed               `json:"deed,omitempty"`    // this revision is an operator's doing; the rest is as the job before left it
	Repeats uint64              `json:"repeats,omitempty"` // revision of the commit that a worker, which had only read it, wrote again as this one
}

// Mark is the highest effect that a context took from another: its sequence and index there, and the sequence of the
// job by which it came here.
type Mark [3]uint64

// Tries counts how often the job at Sequence was begun by workers that did not come back.
type Tries struct {
	Sequence uint64 `json:"sequence"`
	Count    int    `json:"count"`
}

// Held says since when and why a context's jobs wait. They stay on the stream. A context is held by an operator, or, where
// its pool is set up so, by a job that failed: that job has not ended, and is run once more when the context goes on.
type Held struct {
	Since    time.Time `json:"since"`
	By       string    `json:"by"`                 // the operator, or the worker that met the failure
	Why      string    `json:"why,omitempty"`      // the operator's words
	Sequence uint64    `json:"sequence,omitempty"` // of the job that failed; 0: none did
	Job      string    `json:"job,omitempty"`      // its id
	Error    *Error    `json:"error,omitempty"`    // how it failed
}

// Skip ends the job at Sequence as a dead letter, for the reason that it held its context for.
type Skip struct {
	Sequence uint64 `json:"sequence"`
	Error    Error  `json:"error"`
}

// Deed is what an operator did to a context.
type Deed struct {
	What string    `json:"what"` // pause, resume, retry, drop, cancel or reset
	By   string    `json:"by"`
	Time time.Time `json:"time"`

	Calls []string `json:"cancelled,omitempty"` // ids of the calls that cancel closed
}

// Kinds of effect.
const (
	EffectCall = "call" // an HTTP request
	EffectJob  = "job"  // a job for this or another context
	EffectDead = "dead" // the dead letter of the job itself
)

// Effect is one message that a commit owes to the world. Its index in the outbox makes its id.
type Effect struct {
	Kind    string      `json:"kind"`
	Service string      `json:"service,omitempty"` // of a call
	Request *Request    `json:"request,omitempty"` // of a call
	Job     *Dispatched `json:"job,omitempty"`

	// Of a call that the job itself took back: it is not published, and only holds the places of those behind it.
	Cancelled bool `json:"cancelled,omitempty"`

	// Of a dead letter whose job answered a call: the call, and the inline source that took the answer.
	Call   *OpenCall `json:"call,omitempty"`
	Source string    `json:"source,omitempty"`
}

// Dispatched is a job as an effect.
type Dispatched struct {
	To     string          `json:"to"` // subject
	Caller string          `json:"caller"`
	Script string          `json:"script,omitempty"`
	Source string          `json:"source,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Answer *Answer         `json:"answer,omitempty"` // for a call's error script

	Release string `json:"release,omitempty"` // to run on; empty: the current one
}

// Outcomes of a job.
const (
	OutcomeDone      = "done"
	OutcomeDead      = "dead"      // see the dead letters
	OutcomeDuplicate = "duplicate" // recognised as one that took effect before
	OutcomeLate      = "late"      // the answer of a call that is no longer open
)

// Report is what is known of one job's run.
type Report struct {
	Job       string          `json:"job"`
	Sequence  uint64          `json:"sequence"`
	Outcome   string          `json:"outcome"`
	Script    string          `json:"script,omitempty"`
	Release   string          `json:"release,omitempty"`
	Caller    string          `json:"caller,omitempty"`
	Parent    string          `json:"parent,omitempty"`
	Call      string          `json:"call,omitempty"`      // the call that it answered
	Operation string          `json:"operation,omitempty"` // of that call
	Failed    string          `json:"failed,omitempty"`    // that call's failure, by type
	Published time.Time       `json:"published"`
	Started   time.Time       `json:"started"`
	Took      float64         `json:"took_ms"`
	Worker    string          `json:"worker"` // the process
	Input     *Input          `json:"input,omitempty"`
	Output    string          `json:"output,omitempty"`
	OutputCut bool            `json:"output_cut,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *Error          `json:"error,omitempty"`
	Trace     string          `json:"trace,omitempty"`
	Cancelled []string        `json:"cancelled,omitempty"` // ids of open calls that the job closed, whoever had asked for them
}

// Input is what a job ran on. What is larger than MaxKept is kept as its size and digest.
type Input struct {
	Data   json.RawMessage `json:"data,omitempty"`
	Source string          `json:"source,omitempty"`
	Answer *Answer         `json:"answer,omitempty"`
	Size   int             `json:"size,omitempty"`
	SHA256 string          `json:"sha256,omitempty"`
}

// Error says why a job is dead.
type Error struct {
	Reason  string  `json:"reason"` // see the Reason constants
	Message string  `json:"message"`
	Script  string  `json:"script,omitempty"`
	Line    int     `json:"line,omitempty"`
	Column  int     `json:"column,omitempty"`
	Code    string  `json:"code,omitempty"` // the line itself
	Trace   []Frame `json:"trace,omitempty"`
}

// String is the error in one line, with its place in the script.
func (e Error) String() string {
	if e.Script == "" || e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Script, e.Line, e.Column, e.Message)
}

// Frame is one step of a script's backtrace, the innermost first.
type Frame struct {
	Script string `json:"script"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// Reasons of a dead letter. Those of a script come from the scripting room by their own names: compile, runtime,
// unknown_script, time_limit, limit.
const (
	ReasonMalformed = "malformed"  // headers, subject or body can't be read
	ReasonForged    = "forged"     // it claims an origin that it can't prove
	ReasonDeadline  = "deadline"   // it had not begun by its deadline
	ReasonTooLarge  = "too_large"  // the outcome does not fit
	ReasonNoPool    = "no_pool"    // it asked for a job in a pool that does not exist
	ReasonService   = "no_service" // it asked for a call that no service takes
	ReasonDenied    = "denied"     // it is, or asked for, what its pool does not allow
	ReasonPoison    = "poison"     // workers that begin it do not come back
	ReasonRefused   = "refused"    // a stream refused an effect for good
	ReasonNoRelease = "no_release" // the release that its flow began on is not there, or damaged
)

// DeadLetter is the copy of a job that could not run, or of an effect that could not be published.
type DeadLetter struct {
	Error    Error     `json:"error"`
	Job      string    `json:"job"`
	Context  string    `json:"context"` // <pool>.<context>
	Script   string    `json:"script,omitempty"`
	Release  string    `json:"release,omitempty"`
	Caller   string    `json:"caller,omitempty"`
	Revision uint64    `json:"revision,omitempty"` // of the context that records the death; its state is what the job ran on
	Time     time.Time `json:"time"`
	Worker   string    `json:"worker"`
	Held     bool      `json:"held,omitempty"` // the job has not ended: it holds its context until an operator decides
	Message  Original  `json:"message"`

	// Of a job that answered a call: the call, and the inline source that took the answer.
	Call   *OpenCall `json:"call,omitempty"`
	Source string    `json:"source,omitempty"`
}

// Original is a message as it was published.
type Original struct {
	Subject  string              `json:"subject"`
	Sequence uint64              `json:"sequence,omitempty"`
	Time     time.Time           `json:"time,omitzero"`
	Header   map[string][]string `json:"headers,omitempty"`
	Data     Text                `json:"data,omitempty"`
}

// Copy returns the message in the form that dead letters carry, without its proof.
func (m Message) Copy() Original {
	header := make(map[string][]string, len(m.Header))
	for name, values := range m.Header {
		if name != HeaderProof {
			header[name] = values
		}
	}
	return Original{Subject: m.Subject, Sequence: m.Sequence, Time: m.Time, Header: header, Data: m.Data}
}

// DecodeCommit reads a value of a pool's bucket.
func DecodeCommit(data []byte) (Commit, error) {
	var c Commit
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("the context's value is no commit: %w", err)
	}
	if c.Version != Version {
		return c, fmt.Errorf("the context's value has version %d; this worker knows %d: bring the pool to one version", c.Version, Version)
	}
	return c, nil
}
