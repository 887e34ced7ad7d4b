package simulation

import (
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"strings"
	"time"
)

// trace is what happened, move by move.
type trace struct {
	start time.Time
	lines []line
	sum   hash.Hash64
}

type line struct {
	at          time.Duration
	who, what   string
	where, how  string
	number, and uint64
}

func newTrace(start time.Time) *trace { return &trace{start: start, sum: fnv.New64a()} }

// add records a move. number is a sequence or revision, and another number, each where there is one.
func (t *trace) add(l line) {
	l.at = time.Since(t.start)
	t.lines = append(t.lines, l)
	var b [24]byte
	binary.LittleEndian.PutUint64(b[:], uint64(l.at))
	binary.LittleEndian.PutUint64(b[8:], l.number)
	binary.LittleEndian.PutUint64(b[16:], l.and)
	_, _ = t.sum.Write(b[:])
	for _, s := range []string{l.who, l.what, l.where, l.how} {
		_, _ = t.sum.Write([]byte(s))
		_, _ = t.sum.Write([]byte{0})
	}
}

// text is the last part of the trace, for people.
func (t *trace) text(last int) string {
	var b strings.Builder
	lines := t.lines
	if len(lines) > last {
		fmt.Fprintf(&b, "(%d earlier lines are left out)\n", len(lines)-last)
		lines = lines[len(lines)-last:]
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "%14.6fs  %-9s %-14s %s", l.at.Seconds(), l.who, l.what, l.where)
		if l.number > 0 {
			fmt.Fprintf(&b, " %s", number(l.number))
		}
		if l.and > 0 {
			fmt.Fprintf(&b, " / %s", number(l.and))
		}
		if l.how != "" {
			fmt.Fprintf(&b, "  %s", l.how)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// number shortens sequences, which begin at the time in microseconds, to what tells them apart.
func number(n uint64) string {
	if n < 1e12 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("…%09d", n%1e9)
}
