package modules

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// Bounds of regular expressions. One match takes at most as many steps as the text is long times as many as the program
// is; finding all of them can take that once for each place in the text.
const (
	maxPattern = 1000
	maxProgram = 2000
	maxSubject = 64 << 10
	maxMatches = 10_000
	maxSteps   = 400_000_000 // of a search that cannot be stopped on the way
)

// pattern is a compiled regular expression.
type pattern struct {
	re         *regexp.Regexp
	program    int  // instructions
	assertions bool // it looks at what stands around a match
}

// compiled compiles a pattern. The second value is an error value for the script when the pattern is not valid.
func compiled(args []tengo.Object, i int) (*pattern, tengo.Object, error) {
	text, err := toText(args, i)
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxPattern {
		return nil, nil, fmt.Errorf("a pattern may have %d bytes at most", maxPattern)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, value.NewError(err), nil
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil || len(prog.Inst) > maxProgram {
		return nil, nil, errors.New("the pattern is too complex")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, value.NewError(err), nil
	}
	p := &pattern{re: re, program: len(prog.Inst)}
	for _, inst := range prog.Inst {
		p.assertions = p.assertions || inst.Op == syntax.InstEmptyWidth
	}
	return p, nil, nil
}

func subject(args []tengo.Object, i int) (string, error) {
	s, err := toText(args, i)
	if err == nil && len(s) > maxSubject {
		err = fmt.Errorf("a text to match may have %d bytes at most", maxSubject)
	}
	return s, err
}

// all finds up to n matches; n < 0 is all. It is regexp's FindAllStringSubmatchIndex, but stops when the run does:
// that takes a search for each match in the rest of the text, which a pattern with assertions would not survive.
func (p *pattern) all(r *Run, s string, n int) ([][]int, error) {
	if n < 0 {
		n = len(s) + 1
	}
	if p.assertions {
		if n > 1 && len(s)*len(s)*p.program > maxSteps {
			return nil, errors.New("the text is too long for all matches of a pattern with ^, $ or \\b")
		}
		return p.re.FindAllStringSubmatchIndex(s, n), nil
	}
	var found [][]int
	for pos, before := 0, -1; len(found) < n && pos <= len(s); {
		if r.stopped() {
			return nil, errors.New("stopped")
		}
		m := p.re.FindStringSubmatchIndex(s[pos:])
		if m == nil {
			break
		}
		shift(m, pos)
		empty := m[1] == pos
		if !empty || m[0] != before {
			found = append(found, m)
		}
		before = m[1]
		if pos = m[1]; empty {
			_, width := utf8.DecodeRuneInString(s[pos:])
			pos += max(width, 1)
		}
	}
	return found, nil
}

func shift(m []int, by int) {
	for i := range m {
		if m[i] >= 0 {
			m[i] += by
		}
	}
}

type patternFunc = func(r *Run, p *pattern, args []tengo.Object) (tengo.Object, error)

// withPattern makes a function whose first argument is a pattern of one of the methods of a compiled pattern.
func withPattern(method patternFunc) func(*Run, []tengo.Object) (tengo.Object, error) {
	return func(r *Run, args []tengo.Object) (tengo.Object, error) {
		p, bad, err := compiled(args, 0)
		if p == nil {
			return bad, err
		}
		return method(r, p, args[1:])
	}
}

var (
	reMatch   = withPattern(match)
	reFind    = withPattern(find)
	reReplace = withPattern(replace)
	reSplit   = withPattern(splitBy)
)

// reCompile returns a compiled pattern: match(text), find(text[, count]), replace(text, repl), split(text[, count]).
func reCompile(r *Run, args []tengo.Object) (tengo.Object, error) {
	p, bad, err := compiled(args, 0)
	if p == nil {
		return bad, err
	}
	method := func(lo, hi int, f patternFunc) fn {
		return fn{lo, hi, func(r *Run, args []tengo.Object) (tengo.Object, error) { return f(r, p, args) }}
	}
	return newModule(r, "regexp", members{"match": method(1, 1, match), "find": method(1, 2, find),
		"replace": method(2, 2, replace), "split": method(1, 2, splitBy)}), nil
}

func match(_ *Run, p *pattern, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	return boolean(p.re.MatchString(s)), nil
}

// find returns the matches, each an array of its groups {text, begin, end}; undefined when there is none.
func find(r *Run, p *pattern, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	n, err := count(args, 1, 1)
	if err != nil {
		return nil, err
	}
	found, err := p.all(r, s, n)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return tengo.UndefinedValue, nil
	}
	matches := make([]tengo.Object, len(found))
	for i, m := range found {
		matches[i] = groups(s, m)
	}
	return value.NewArray(matches), nil
}

// groups makes an array of the groups of a match; one that took no part is empty, at -1.
func groups(s string, m []int) tengo.Object {
	items := make([]tengo.Object, 0, len(m)/2)
	for i := 0; i < len(m); i += 2 {
		g := value.NewMap(3)
		text := ""
		if m[i] >= 0 {
			text = s[m[i]:m[i+1]]
		}
		g.Set("text", str(text))
		g.Set("begin", integer(int64(m[i])))
		g.Set("end", integer(int64(m[i+1])))
		items = append(items, g)
	}
	return value.NewArray(items)
}

// count reads how many matches are wanted; fewer than 0 is all.
func count(args []tengo.Object, i, otherwise int) (int, error) {
	if i >= len(args) {
		return otherwise, nil
	}
	n, err := toInt(args, i)
	if n < 0 || n > maxMatches {
		n = maxMatches
	}
	return int(n), err
}

// replace knows $1 and ${name} in what it puts in.
func replace(r *Run, p *pattern, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	with, err := toText(args, 1)
	if err != nil {
		return nil, err
	}
	found, err := p.all(r, s, -1)
	if err != nil {
		return nil, err
	}
	if len(with) > maxPattern && len(found) > 0 {
		return nil, fmt.Errorf("a replacement may have %d bytes at most", maxPattern)
	}
	var out []byte
	end := 0
	for _, m := range found {
		out = append(out, s[end:m[0]]...)
		out = p.re.ExpandString(out, with, s, m)
		end = m[1]
		if len(out) > value.MaxString {
			return nil, tengo.ErrStringLimit
		}
	}
	return limited(string(append(out, s[end:]...)))
}

// splitBy is regexp's Split.
func splitBy(r *Run, p *pattern, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	n, err := count(args, 1, -1)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return value.NewArray(nil), nil
	}
	if s == "" {
		return value.Strings([]string{""}), nil
	}
	found, err := p.all(r, s, n)
	if err != nil {
		return nil, err
	}
	var parts []string
	begin, end := 0, 0
	for _, m := range found {
		if n > 0 && len(parts) == n-1 {
			break
		}
		if end = m[0]; m[1] != 0 {
			parts = append(parts, s[begin:end])
		}
		begin = m[1]
	}
	if end != len(s) {
		parts = append(parts, s[begin:])
	}
	return value.Strings(parts), nil
}
