package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"time"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// Letter is a dead letter with its place.
type Letter struct {
	ID string `json:"id"` // <pool>.<context>.<sequence>
	job.DeadLetter
	Broken string `json:"broken,omitempty"` // why it can't be read; the rest is empty then

	at       job.Address
	name     string // the id's last token
	sequence uint64 // of the letter in the stream of dead letters
}

// ParseID reads a letter's id: the context, and its name there.
func ParseID(id string) (at job.Address, name string, err error) {
	part := strings.Split(id, ".")
	if len(part) != 3 || part[2] == "" || strings.ContainsAny(part[2], "*> \t\r\n") {
		return at, "", fmt.Errorf("%q: want POOL.CONTEXT.SEQUENCE, as `thence dead list` prints it", id)
	}
	at, err = job.ParseAddress(part[0] + "." + part[1])
	return at, part[2], err
}

// Sequence is the letter's place in the stream of dead letters: letters that come later have a higher one.
func (l Letter) Sequence() uint64 { return l.sequence }

func read(m job.Message) Letter {
	l := Letter{ID: strings.Replace(m.Subject, ".dead.", ".", 1), sequence: m.Sequence}
	var err error
	if l.at, l.name, err = ParseID(l.ID); err == nil {
		err = json.Unmarshal(m.Data, &l.DeadLetter)
	}
	if err != nil {
		l.DeadLetter, l.Broken = job.DeadLetter{}, err.Error()
	}
	return l
}

// omitted is what a letter holds in place of a body that was too large to go along.
var omitted = regexp.MustCompile(`^\((\d+) bytes, too many to keep; sha256 [0-9a-f]{64}\)$`)

// Kept tells whether the letter holds its message as it was published.
func (l Letter) Kept() bool { return len(l.Message.Header) > 0 || !omitted.Match(l.Message.Data) }

// Filter says which letters are meant. The zero value means all of the pool.
type Filter struct {
	Context string
	Script  string
	Reason  string
	Job     string
	Since   time.Time // died at or after
	Until   time.Time // died before
	Through uint64    // sequence of the last letter that counts; 0: whatever is there
}

// All tells whether the filter takes every letter of the pool, or of the context.
func (f Filter) All() bool {
	f.Context, f.Through = "", 0
	return f == Filter{}
}

func (f Filter) takes(l Letter) bool {
	switch {
	case f.Through > 0 && l.sequence > f.Through, f.Script != "" && l.Script != f.Script,
		f.Reason != "" && l.Error.Reason != f.Reason, f.Job != "" && l.Job != f.Job:
		return false
	}
	return (f.Since.IsZero() || !l.Time.Before(f.Since)) && (f.Until.IsZero() || l.Time.Before(f.Until))
}

// Letters are the letters that a filter takes, oldest first. One that can't be read is among them, when the filter takes
// all. An error ends them.
func (o *Operator) Letters(ctx context.Context, f Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		ended := false
		err := o.pool.DeadLetters(ctx, f.Context, func(m job.Message) bool {
			l := read(m)
			if f.takes(l) && !yield(l, nil) {
				ended = true
			}
			return !ended && (f.Through == 0 || m.Sequence < f.Through)
		})
		if err != nil && !ended {
			yield(Letter{}, err)
		}
	}
}

// Kind is what letters are counted by.
type Kind struct {
	Reason string `json:"reason"`
	Script string `json:"script,omitempty"`
}

// Count is how many letters a filter takes.
type Count struct {
	Total   int
	Held    int // of them hold their context
	Kinds   map[Kind]int
	Through uint64 // sequence of the last of them
}

// Count counts the letters that a filter takes. With its Through in the filter, the same letters are meant later.
func (o *Operator) Count(ctx context.Context, f Filter) (Count, error) {
	c := Count{Kinds: map[Kind]int{}}
	for l, err := range o.Letters(ctx, f) {
		if err != nil {
			return c, err
		}
		c.Total++
		c.Kinds[Kind{l.Error.Reason, l.Script}]++
		c.Through = l.sequence
		if l.Held {
			c.Held++
		}
	}
	return c, nil
}

// ErrGone is returned for a letter that is not there, or not any more.
var ErrGone = errors.New("there is no such dead letter")

// gone is ErrGone with the letter's id.
type gone struct{ text string }

func (g *gone) Error() string { return g.text }

// Is makes it an ErrGone.
func (g *gone) Is(target error) bool { return target == ErrGone }

func (l Letter) gone() error {
	return &gone{fmt.Sprintf("dead letter %s was removed or replaced meanwhile", l.ID)}
}

// Find reads one letter by its id. Its error is ErrGone when there is none.
func (o *Operator) Find(ctx context.Context, id string) (Letter, error) {
	at, name, err := ParseID(id)
	if err != nil {
		return Letter{}, err
	}
	m, err := o.pool.DeadFromLeader(ctx, at.String()+".dead."+name)
	if errors.Is(err, stream.ErrNone) {
		return Letter{}, &gone{fmt.Sprintf("there is no dead letter %s: see `thence dead list %s`", id, at.Pool)}
	}
	if err != nil {
		return Letter{}, err
	}
	return read(m), nil
}

// stands returns ErrGone unless the letter is still there as it was read.
func (o *Operator) stands(ctx context.Context, l Letter) error {
	m, err := o.pool.DeadFromLeader(ctx, l.at.String()+".dead."+l.name)
	if errors.Is(err, stream.ErrNone) || err == nil && m.Sequence != l.sequence {
		return l.gone()
	}
	return err
}
