package scripting

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/thence-dev/thence/scripting/internal/compile"
)

// ErrorKind tells errors of scripts apart.
type ErrorKind string

// The kinds of errors.
const (
	KindUnknownScript ErrorKind = "unknown_script" // the library has no script of that name
	KindCompile       ErrorKind = "compile"        // the source does not compile
	KindRuntime       ErrorKind = "runtime"        // the script failed
	KindTimeLimit     ErrorKind = "time_limit"     // it ran for longer than Limits.Time
	KindLimit         ErrorKind = "limit"          // it went over another of its limits
)

// Error says what is wrong with a script, and where. It is the same for the same input, and may be shown to whoever
// wrote the script: Error has several lines, the first of which says it all.
type Error struct {
	Kind    ErrorKind `json:"kind"`
	Script  string    `json:"script"`           // the script in which it happened, maybe an imported one
	Line    int       `json:"line,omitempty"`   // from 1; 0 when unknown
	Column  int       `json:"column,omitempty"` // in characters, from 1
	Message string    `json:"message"`
	Code    string    `json:"code,omitempty"`  // the source's line
	Trace   []Frame   `json:"trace,omitempty"` // the calls that led there, innermost first; empty for one
}

// Frame is a place in a script.
type Frame struct {
	Script string `json:"script"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// Error shows the place, the message, the line with a mark under the column, and the calls that led there:
//
//	checkout:3:1: cannot call undefined
//
//	    3 | send("x")
//	      | ^
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Script)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": " + e.Message)
	if e.Code != "" {
		e.writeCode(&b)
	}
	for _, f := range e.Trace {
		fmt.Fprintf(&b, "\n    at %s:%d:%d", f.Script, f.Line, f.Column)
	}
	return b.String()
}

// writeCode shows the part of a long line around the column.
func (e *Error) writeCode(b *strings.Builder) {
	const most = 120
	code, column := []rune(strings.ReplaceAll(e.Code, "\t", " ")), max(e.Column-1, 0)
	if len(code) > most {
		from := min(max(column-most/2, 0), len(code)-most)
		code, column = code[from:from+most], column-from
	}
	number := fmt.Sprint(e.Line)
	gap := strings.Repeat(" ", utf8.RuneCountInString(number))
	fmt.Fprintf(b, "\n\n    %s | %s\n    %s | %s^", number, string(code), gap, strings.Repeat(" ", min(column, len(code))))
	if len(e.Trace) > 0 {
		b.WriteByte('\n')
	}
}

func compileError(e *compile.Error) *Error {
	return &Error{Kind: KindCompile, Script: e.Script, Line: e.Line, Column: e.Column, Message: escaped(e.Msg), Code: shorten(e.Code)}
}

// at puts the error where a trace says, innermost first.
func (e *Error) at(trace []compile.Position) *Error {
	if len(trace) == 0 {
		return e
	}
	e.Script, e.Line, e.Column, e.Code = trace[0].Script, trace[0].Line, trace[0].Column, shorten(trace[0].Code)
	if len(trace) == 1 {
		return e
	}
	const most = 20
	for i, p := range trace {
		if len(trace) <= most || i < most/2 || i >= len(trace)-most/2 {
			e.Trace = append(e.Trace, Frame{p.Script, p.Line, p.Column})
		}
	}
	return e
}

// shorten cuts a line of source, and puts marks where it has characters that would do something to a terminal.
func shorten(code string) string {
	const most = 1000
	if len(code) > most {
		code = strings.ToValidUTF8(code[:most], "")
	}
	return strings.Map(func(r rune) rune {
		if r != '\t' && hidden(r) {
			return utf8.RuneError
		}
		return r
	}, code)
}

// escaped writes a message that has hidden characters with escapes. A script decides on parts of messages, which must
// stay in one line and show what is there.
func escaped(message string) string {
	if !strings.ContainsFunc(message, hidden) {
		return message
	}
	quoted := strconv.QuoteToGraphic(message)
	return quoted[1 : len(quoted)-1]
}

// hidden tells whether a character is not seen but has an effect: on the line, the terminal, or the order of others.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}
