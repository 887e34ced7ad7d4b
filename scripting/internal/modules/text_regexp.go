package modules

import (
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/d5/tengo/v2"
	"github.com/thence-dev/thence/scripting/internal/value"
)

// Bounds of regular expressions: matching takes as many steps as the text is long times as many as the program is.
const (
	maxPattern = 1000
	maxProgram = 2000
	maxSubject = 64 << 10
	maxMatches = 10_000
)

// compiled compiles a pattern. The second value is an error value for the script when the pattern is not valid.
func compiled(args []tengo.Object, i int) (*regexp.Regexp, tengo.Object, error) {
	pattern, err := toText(args, i)
	if err != nil {
		return nil, nil, err
	}
	if len(pattern) > maxPattern {
		return nil, nil, fmt.Errorf("a pattern may have %d bytes at most", maxPattern)
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, value.NewError(err), nil
	}
	if prog, err := syntax.Compile(tree.Simplify()); err != nil || len(prog.Inst) > maxProgram {
		return nil, nil, fmt.Errorf("the pattern is too complex")
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, value.NewError(err), nil
	}
	return re, nil, nil
}

func subject(args []tengo.Object, i int) (string, error) {
	s, err := toText(args, i)
	if err == nil && len(s) > maxSubject {
		err = fmt.Errorf("a text to match may have %d bytes at most", maxSubject)
	}
	return s, err
}

// withPattern makes a function whose first argument is a pattern of one of the methods of a compiled pattern.
func withPattern(method func(*regexp.Regexp, []tengo.Object) (tengo.Object, error)) func(*Run, []tengo.Object) (tengo.Object, error) {
	return func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		re, bad, err := compiled(args, 0)
		if re == nil {
			return bad, err
		}
		return method(re, args[1:])
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
	re, bad, err := compiled(args, 0)
	if re == nil {
		return bad, err
	}
	method := func(lo, hi int, f func(*regexp.Regexp, []tengo.Object) (tengo.Object, error)) fn {
		return fn{lo, hi, func(_ *Run, args []tengo.Object) (tengo.Object, error) { return f(re, args) }}
	}
	return newModule(r, "regexp", members{"match": method(1, 1, match), "find": method(1, 2, find),
		"replace": method(2, 2, replace), "split": method(1, 2, splitBy)}), nil
}

func match(re *regexp.Regexp, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	return boolean(re.MatchString(s)), nil
}

// find returns the matches, each an array of its groups {text, begin, end}; undefined when there is none.
func find(re *regexp.Regexp, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	n, err := count(args, 1, 1)
	if err != nil {
		return nil, err
	}
	found := re.FindAllStringSubmatchIndex(s, n)
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
func replace(re *regexp.Regexp, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	with, err := toText(args, 1)
	if err != nil {
		return nil, err
	}
	var out []byte
	end := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		out = append(out, s[end:m[0]]...)
		if len(with) > maxPattern {
			return nil, tengo.ErrStringLimit
		}
		out = re.ExpandString(out, with, s, m)
		end = m[1]
		if len(out) > value.MaxString {
			return nil, tengo.ErrStringLimit
		}
	}
	return limited(string(append(out, s[end:]...)))
}

func splitBy(re *regexp.Regexp, args []tengo.Object) (tengo.Object, error) {
	s, err := subject(args, 0)
	if err != nil {
		return nil, err
	}
	n, err := count(args, 1, -1)
	if err != nil {
		return nil, err
	}
	return value.Strings(re.Split(s, n)), nil
}
