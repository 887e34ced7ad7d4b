package compile

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/d5/tengo/v2"
	"github.com/d5/tengo/v2/parser"
)

// Position is a place in a program's sources.
type Position struct {
	Script string
	Line   int // from 1; 0 when unknown
	Column int // in characters, from 1
	Code   string
}

func locate(set *parser.SourceFileSet, files []File, pos parser.Pos) Position {
	at := set.Position(pos)
	if !at.IsValid() {
		return Position{Script: files[len(files)-1].Name}
	}
	return place(files, at.Filename, at.Line, at.Column)
}

// place makes a Position of a file's number, a line and a column in bytes.
func place(files []File, number string, line, column int) Position {
	n, err := strconv.Atoi(number)
	if err != nil || n >= len(files) {
		return Position{}
	}
	p := Position{Script: files[n].Name, Line: line, Code: lineOf(files[n].Source, line)}
	p.Column = utf8.RuneCountInString(p.Code[:min(max(column-1, 0), len(p.Code))]) + 1
	return p
}

func lineOf(src string, line int) string {
	for range line - 1 {
		_, src, _ = strings.Cut(src, "\n")
	}
	src, _, _ = strings.Cut(src, "\n")
	return strings.TrimSuffix(src, "\r")
}

// Trace takes the error of a VM's Run apart: what went wrong, and where, innermost first.
func (p *Program) Trace(err error) (trace []Position, cause error) {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || inner.Unwrap() == nil {
			return reverse(trace), err
		}
		cause = inner.Unwrap()
		text, at, ok := cutLast(err.Error(), "\n\tat ")
		if !ok {
			return reverse(trace), err
		}
		if pos, ok := p.parse(at); ok {
			trace = append(trace, pos)
		}
		err = cause
		if text == "Runtime Error: "+cause.Error() {
			return reverse(trace), cause
		}
	}
}

func reverse(trace []Position) []Position {
	for i, j := 0, len(trace)-1; i < j; i, j = i+1, j-1 {
		trace[i], trace[j] = trace[j], trace[i]
	}
	return trace
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// parse reads "file:line:column".
func (p *Program) parse(at string) (Position, bool) {
	parts := strings.Split(at, ":")
	if len(parts) != 3 {
		return Position{}, false
	}
	line, err1 := strconv.Atoi(parts[1])
	column, err2 := strconv.Atoi(parts[2])
	pos := place(p.files, parts[0], line, column)
	return pos, err1 == nil && err2 == nil && pos.Line > 0
}

// Where tells where a VM stands that panicked or was aborted, innermost first. Tengo keeps that to itself, so it is
// read by reflection; should a later Tengo name its fields otherwise, the answer is empty.
func (p *Program) Where(vm *tengo.VM) (trace []Position) {
	defer func() {
		if recover() != nil {
			trace = nil
		}
	}()
	set := &parser.SourceFileSet{Base: p.bytecode.FileSet.Base, Files: p.bytecode.FileSet.Files}
	v := reflect.ValueOf(vm).Elem()
	add := func(fn reflect.Value, ip int64) {
		if pos := sourcePos(fn, ip); pos.IsValid() {
			trace = append(trace, locate(set, p.files, pos))
		}
	}
	frames := v.FieldByName("frames")
	n := int(v.FieldByName("framesIndex").Int())
	add(frames.Index(n-1).FieldByName("fn"), v.FieldByName("ip").Int())
	for i := n - 2; i >= 0; i-- {
		add(frames.Index(i).FieldByName("fn"), frames.Index(i).FieldByName("ip").Int())
	}
	return trace
}

// sourcePos is CompiledFunction.SourcePos by reflection. ip is that of the instruction in hand, or of one of its
// operands.
func sourcePos(fn reflect.Value, ip int64) parser.Pos {
	positions := fn.Elem().FieldByName("SourceMap")
	for ; ip >= 0; ip-- {
		if pos := positions.MapIndex(reflect.ValueOf(int(ip))); pos.IsValid() {
			return parser.Pos(pos.Int())
		}
	}
	if pos := positions.MapIndex(reflect.ValueOf(0)); pos.IsValid() { // aborted on the way back to the first one
		return parser.Pos(pos.Int())
	}
	return parser.NoPos
}

// hint explains the syntax errors that everybody meets.
func hint(src string, offset int, msg string) string {
	wanted, word, _ := strings.Cut(strings.TrimSuffix(msg, "'"), ", found '")
	if word == "" || !isLetter(word[0]) || offset > len(src) {
		return ""
	}
	switch wanted {
	case "expected map key":
		return fmt.Sprintf(": %s is a keyword, so write it as %q", word, word)
	case "expected selector":
	default:
		return ""
	}
	base := baseOf(src[:offset])
	if base == "log" && word == "error" {
		return ": error is a keyword, so use log.fail"
	}
	return fmt.Sprintf(": %s is a keyword, so write %s[%q] instead of %s.%s", word, base, word, base, word)
}

// baseOf returns the names and points that end src, without the last point: "data" of `x := data.`.
func baseOf(src string) string {
	src = strings.TrimRight(src, ". \t\r\n")
	i := len(src)
	for i > 0 && (src[i-1] == '.' || isLetter(src[i-1]) || src[i-1] >= '0' && src[i-1] <= '9') {
		i--
	}
	if i == len(src) {
		return "x"
	}
	return src[i:]
}

func isLetter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
