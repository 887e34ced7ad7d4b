package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/thence-dev/thence/internal/job"
)

// Content is what can be edited of a letter's message. In the message it is a body of one of several forms.
type Content struct {
	Source []byte // Tengo source; nil: the job runs a script of the library
	Data   []byte // nil: none
	JSON   bool   // Data is JSON, else a text
}

// Content returns what can be edited of the letter. Of an answer it is the answer's body, as its script sees it.
func (l Letter) Content() (Content, error) {
	whole, err := l.whole()
	if err != nil {
		return Content{}, err
	}
	j, err := job.Parse(whole)
	switch {
	case err != nil:
		return l.unreadable(whole, err)
	case j.Answer != nil:
		source := j.Answer.Source + l.Source // one of them is empty
		return Content{Source: optional(source), Data: j.Answer.Body, JSON: json.Valid(j.Answer.Body)}, nil
	case j.Script != "":
		return Content{Data: optional(string(whole.Data)), JSON: whole.Get(job.HeaderType) != job.TypeText && json.Valid(whole.Data)}, nil
	}
	return Content{Source: []byte(j.Source), Data: j.Data, JSON: j.Data != nil}, nil
}

// unreadable is the content of a message that is malformed, for want of its body alone.
func (l Letter) unreadable(m job.Message, why error) (Content, error) {
	switch typ := m.Get(job.HeaderType); {
	case typ == job.TypeInline || typ == job.TypeAnswer, len(m.Data) == 0 && m.Get(job.HeaderScript) != "", !anyBody(m):
		return Content{}, l.refuse(doSubmit, "it can't be read, and another body would not mend that: %v", why)
	case m.Get(job.HeaderScript) != "":
		return Content{Data: m.Data, JSON: typ == job.TypeJSON}, nil
	}
	return Content{Source: m.Data}, nil
}

// anyBody tells whether the message could be read with a body that is right: its headers are.
func anyBody(m job.Message) bool {
	m.Data = []byte("{}") // data, and a source as well
	_, err := job.Parse(m)
	return err == nil
}

func optional(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

// whole is the letter's message as it was published, without its proof, if it can be published again at all.
func (l Letter) whole() (job.Message, error) {
	var m job.Message
	switch {
	case l.Broken != "":
		return m, l.refuse(doDrop, "the letter can't be read: %s", l.Broken)
	case strings.HasPrefix(l.name, "call-"):
		return m, l.refuse(doDrop, "it is a message among the calls that no worker made: there is no job to run")
	case !l.Kept():
		return m, l.refuse(doSubmit, "its message was too large to keep: %s", strings.Trim(string(l.Message.Data), "()"))
	case l.Error.Reason == job.ReasonForged:
		return m, l.refuse(doSubmit, "it claims an origin that it can't prove, and a retry would prove it")
	}
	m = job.Message{Subject: l.Message.Subject, Header: l.Message.Header, Data: l.Message.Data}
	if _, err := job.ParseCallSubject(m.Subject); err == nil {
		return m, l.refuse(doDrop, "it is a call, and its context was told that it was not made (%s)", job.FailureUnknown)
	}
	a, err := job.ParseAddress(m.Subject)
	if err == nil {
		err = a.Valid()
	}
	if err != nil {
		return m, l.refuse(doSubmit, "no job can go there: %v", err)
	}
	return m, nil
}

// again makes the message that runs the letter's job once more. It has the same id however often it is made.
func (l Letter) again(keys job.Keyring, edited *Content) (job.Message, error) {
	whole, err := l.whole()
	if err != nil {
		return job.Message{}, err
	}
	if edited != nil {
		whole, err = l.edit(whole, *edited)
	} else if l.Error.Reason == job.ReasonMalformed {
		if _, err = l.Content(); err == nil {
			err = l.refuse(doEdit, "it can't be read, and would be a dead letter again: %s", l.Error.Message)
		}
	}
	if err != nil {
		return job.Message{}, err
	}
	m := job.Message{Subject: whole.Subject, Data: whole.Data, Header: map[string][]string{}}
	for _, name := range []string{job.HeaderType, job.HeaderScript, job.HeaderCaller, job.HeaderTrace} {
		if value := whole.Get(name); value != "" {
			m.Header[name] = []string{value}
		}
	}
	if l.unproven() { // a retry has a proof, and would prove whatever caller it names
		delete(m.Header, job.HeaderCaller)
	}
	if whole.Get(job.HeaderCall) != "" {
		if err := l.tellAgain(&m, edited); err != nil {
			return m, err
		}
	}
	id, err := l.retryID(keys)
	if err != nil {
		return m, l.refuse(doSubmit, "%v", err)
	}
	m.Header[job.HeaderID], m.Header[job.HeaderParent] = []string{id}, []string{l.Job}
	if _, err := job.Parse(m); err != nil {
		return m, l.refuse(doEdit, "it would be a dead letter again: %v", err)
	}
	keys.Sign(&m)
	if n := size(m); n > job.MaxJob {
		return m, l.refuse(doSubmit, "as a new job it would have %d bytes, at most %d are allowed", n, job.MaxJob)
	}
	return m, nil
}

// unproven tells that nobody looked whether the message comes from whom it says: it could not be read, or was not begun.
func (l Letter) unproven() bool {
	return l.Error.Reason == job.ReasonMalformed || l.Error.Reason == job.ReasonPoison
}

// retryID is an id that is the same each time, and that nobody without the keys can guess.
func (l Letter) retryID(keys job.Keyring) (string, error) {
	if seq, index, err := job.ParseEffectID(l.name); err == nil {
		return keys.MessageID(keys.Signing(), "retry-effect", job.Origin{Address: l.at, Sequence: seq, Index: index}), nil
	}
	seq, err := strconv.ParseUint(l.name, 10, 64)
	return keys.MessageID(keys.Signing(), "retry", job.Origin{Address: l.at, Sequence: seq}), err
}

// tellAgain makes an answer whose call is closed by now into one that brings its tag and its script along: the form in
// which workers tell a call's error script that the response script failed.
func (l Letter) tellAgain(m *job.Message, edited *Content) error {
	var a job.Answer
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return l.refuse(doSubmit, "the answer can't be read: %v", err)
	}
	if l.Call == nil {
		return l.refuse(doSubmit, "it is an answer, and the letter does not hold its call, whose tag and script it needs")
	}
	a.Tag, a.Operation = l.Call.Tag, l.Call.Operation
	switch {
	case edited != nil && edited.Source != nil: // edit has put it there
	case l.Source != "":
		a.Source = l.Source
	case strings.HasPrefix(l.Script, "inline-"):
		return l.refuse(doSubmit, "its inline script %s was too large to keep beside it", l.Script)
	case l.Script == "":
		return l.refuse(doDrop, "it is an answer that no script takes")
	default:
		m.Header[job.HeaderScript] = []string{l.Script}
	}
	body, err := job.Encode(a)
	m.Data = body
	return err
}

// edit gives the message another content, in the form that its own content had.
func (l Letter) edit(m job.Message, c Content) (job.Message, error) {
	typ := m.Get(job.HeaderType)
	m.Header = maps.Clone(m.Header)
	if m.Get(job.HeaderScript) != "" && typ != job.TypeAnswer && c.Source != nil {
		return m, l.refuse("mend the script in the library and run `thence dead retry ID`; only the data can be edited",
			"it runs the library's script %s and has no source of its own", m.Get(job.HeaderScript))
	}
	var err error
	switch {
	case c.JSON && c.Data != nil && !json.Valid(c.Data):
		err = errors.New("the data is not JSON")
	case typ == job.TypeAnswer:
		m.Data, err = l.editAnswer(m.Data, c)
	case m.Get(job.HeaderScript) != "":
		m.Data = c.Data
	case typ == job.TypeInline || c.Data != nil:
		var old job.Inline
		_ = json.Unmarshal(m.Data, &old) // of a plain source there is no name to keep
		if m.Header == nil {
			m.Header = map[string][]string{}
		}
		m.Header[job.HeaderType] = []string{job.TypeInline}
		m.Data, err = job.Encode(job.Inline{Source: string(c.Source), Name: old.Name, Data: c.asJSON()})
	default:
		m.Data = c.Source
	}
	if err != nil {
		return m, l.refuse("mend what you edited and run `thence dead edit ID` again", "%v", err)
	}
	// Headers are as they were: what they get wrong a new body does not mend.
	if _, err := job.Parse(m); err != nil {
		return m, l.refuse("mend what you edited, or look at it with `thence dead show ID` and submit a job in its place", "it would be a dead letter again: %v", err)
	}
	return m, nil
}

func (l Letter) editAnswer(body []byte, c Content) ([]byte, error) {
	var a job.Answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	if c.Source != nil && a.Source == "" && l.Source == "" {
		return nil, errors.New("the answer goes to a script of the library and has no source of its own")
	}
	a.Body = c.Data
	if c.Source != nil {
		a.Source = string(c.Source)
	}
	return job.Encode(a)
}

// asJSON is the content's data as JSON; nil when there is none.
func (c Content) asJSON() json.RawMessage {
	if c.Data == nil || c.JSON {
		return bytes.TrimSpace(c.Data)
	}
	quoted, _ := json.Marshal(string(c.Data)) // of a string it never fails
	return quoted
}

// size is a message's size as the stream counts it: headers and body.
func size(m job.Message) int {
	n := len("NATS/1.0\r\n\r\n") + len(m.Data)
	for name, values := range m.Header {
		for _, v := range values {
			n += len(name) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}
