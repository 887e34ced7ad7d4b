package modules

import (
	"errors"
	"strconv"
	"strings"
	"unicode"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// textMembers is Tengo's text, with bounds on what its functions may make.
var textMembers = members{
	"re_match": fn{2, 2, reMatch}, "re_find": fn{2, 3, reFind}, "re_replace": fn{3, 3, reReplace},
	"re_split": fn{2, 3, reSplit}, "re_compile": fn{1, 1, reCompile},

	"compare":        text2(func(a, b string) tengo.Object { return integer(int64(strings.Compare(a, b))) }),
	"contains":       text2(func(a, b string) tengo.Object { return boolean(strings.Contains(a, b)) }),
	"contains_any":   fn{2, 2, chars(func(a, b string) tengo.Object { return boolean(strings.ContainsAny(a, b)) })},
	"count":          text2(func(a, b string) tengo.Object { return integer(int64(strings.Count(a, b))) }),
	"equal_fold":     text2(func(a, b string) tengo.Object { return boolean(strings.EqualFold(a, b)) }),
	"has_prefix":     text2(func(a, b string) tengo.Object { return boolean(strings.HasPrefix(a, b)) }),
	"has_suffix":     text2(func(a, b string) tengo.Object { return boolean(strings.HasSuffix(a, b)) }),
	"index":          text2(func(a, b string) tengo.Object { return integer(int64(strings.Index(a, b))) }),
	"index_any":      fn{2, 2, chars(func(a, b string) tengo.Object { return integer(int64(strings.IndexAny(a, b))) })},
	"last_index":     text2(func(a, b string) tengo.Object { return integer(int64(strings.LastIndex(a, b))) }),
	"last_index_any": fn{2, 2, chars(func(a, b string) tengo.Object { return integer(int64(strings.LastIndexAny(a, b))) })},
	"trim":           fn{2, 2, chars(func(a, b string) tengo.Object { return str(strings.Trim(a, b)) })},
	"trim_left":      fn{2, 2, chars(func(a, b string) tengo.Object { return str(strings.TrimLeft(a, b)) })},
	"trim_right":     fn{2, 2, chars(func(a, b string) tengo.Object { return str(strings.TrimRight(a, b)) })},
	"trim_prefix":    text2(func(a, b string) tengo.Object { return str(strings.TrimPrefix(a, b)) }),
	"trim_suffix":    text2(func(a, b string) tengo.Object { return str(strings.TrimSuffix(a, b)) }),

	"trim_space": text1(strings.TrimSpace), "to_lower": text1(strings.ToLower), "to_upper": text1(strings.ToUpper),
	"to_title": text1(strings.ToTitle), "title": text1(title), "quote": text1(strconv.Quote),

	"fields": fn{1, 1, textFields}, "split": fn{2, 2, split(strings.SplitN)}, "split_n": fn{3, 3, split(strings.SplitN)},
	"split_after": fn{2, 2, split(strings.SplitAfterN)}, "split_after_n": fn{3, 3, split(strings.SplitAfterN)},
	"join": fn{2, 2, textJoin}, "repeat": fn{2, 2, textRepeat}, "replace": fn{4, 4, textReplace},
	"substr": fn{2, 3, textSubstr}, "pad_left": fn{2, 3, pad(true)}, "pad_right": fn{2, 3, pad(false)},
}

func text1(f func(string) string) fn {
	return fn{1, 1, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		s, err := toText(args, 0)
		if err != nil {
			return nil, err
		}
		return limited(f(s))
	}}
}

func text2(f func(a, b string) tengo.Object) fn {
	return fn{2, 2, func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		a, b, err := texts2(args)
		if err != nil {
			return nil, err
		}
		return f(a, b), nil
	}}
}

// chars is for functions that look for each character of one text in another, which takes both lengths multiplied.
func chars(f func(a, set string) tengo.Object) func(*Run, []tengo.Object) (tengo.Object, error) {
	return func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		a, set, err := texts2(args)
		if err != nil {
			return nil, err
		}
		if len(set) > 256 {
			return nil, errors.New("argument 2 may have 256 bytes at most")
		}
		return f(a, set), nil
	}
}

// title turns the first letter of each word to upper case.
func title(s string) string {
	before := ' '
	return strings.Map(func(c rune) rune {
		start := unicode.IsSpace(before) || unicode.IsPunct(before) && before != '\'' && before != '_'
		before = c
		if start {
			return unicode.ToTitle(c)
		}
		return c
	}, s)
}

func textFields(_ *Run, args []tengo.Object) (tengo.Object, error) {
	s, err := toText(args, 0)
	if err != nil {
		return nil, err
	}
	return stringArray(strings.Fields(s))
}

func stringArray(list []string) (tengo.Object, error) {
	if len(list) > value.MaxItems {
		return nil, errors.New("too many parts")
	}
	return value.Strings(list), nil
}

func split(f func(s, sep string, n int) []string) func(*Run, []tengo.Object) (tengo.Object, error) {
	return func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		s, sep, err := texts2(args)
		if err != nil {
			return nil, err
		}
		n := int64(-1)
		if len(args) == 3 {
			if n, err = toInt(args, 2); err != nil {
				return nil, err
			}
		}
		if n < 0 || n > value.MaxItems {
			n = value.MaxItems + 1
		}
		return stringArray(f(s, sep, int(n)))
	}
}

func textJoin(_ *Run, args []tengo.Object) (tengo.Object, error) {
	a, err := toArray(args, 0)
	if err != nil {
		return nil, err
	}
	sep, err := toText(args, 1)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := range a.Items {
		s, err := toText(a.Items, i)
		if err != nil {
			return nil, errors.New("element " + strconv.Itoa(i) + " is " + a.Items[i].TypeName() + ", not a string")
		}
		if i > 0 {
			b.WriteString(sep)
		}
		if b.WriteString(s); b.Len() > value.MaxString {
			return nil, tengo.ErrStringLimit
		}
	}
	return str(b.String()), nil
}

func textRepeat(_ *Run, args []tengo.Object) (tengo.Object, error) {
	s, err := toText(args, 0)
	if err != nil {
		return nil, err
	}
	n, err := toCount(args, 1, 0, value.MaxString)
	if err != nil {
		return nil, err
	}
	if len(s)*n > value.MaxString {
		return nil, tengo.ErrStringLimit
	}
	return str(strings.Repeat(s, n)), nil
}

// textReplace(s, old, new, n): n < 0 replaces all.
func textReplace(_ *Run, args []tengo.Object) (tengo.Object, error) {
	s, before, err := texts2(args)
	if err != nil {
		return nil, err
	}
	after, err := toText(args, 2)
	if err != nil {
		return nil, err
	}
	n, err := toInt(args, 3)
	if err != nil {
		return nil, err
	}
	found := int64(strings.Count(s, before))
	if n < 0 || n > found {
		n = found
	}
	if int64(len(s))+n*int64(len(after)-len(before)) > value.MaxString {
		return nil, tengo.ErrStringLimit
	}
	return str(strings.Replace(s, before, after, int(n))), nil
}

func textSubstr(_ *Run, args []tengo.Object) (tengo.Object, error) {
	s, err := toText(args, 0)
	if err != nil {
		return nil, err
	}
	lo, err := toInt(args, 1)
	if err != nil {
		return nil, err
	}
	hi := int64(len(s))
	if len(args) == 3 {
		if hi, err = toInt(args, 2); err != nil {
			return nil, err
		}
	}
	if lo > hi {
		return nil, errors.New("the lower bound is larger than the upper one")
	}
	from, to := cut(lo, hi, len(s))
	return str(s[from:to]), nil
}

// pad(s, length[, with]) fills a text up to a length in bytes.
func pad(left bool) func(*Run, []tengo.Object) (tengo.Object, error) {
	return func(_ *Run, args []tengo.Object) (tengo.Object, error) {
		s, err := toText(args, 0)
		if err != nil {
			return nil, err
		}
		n, err := toInt(args, 1)
		if err != nil {
			return nil, err
		}
		with := " "
		if len(args) == 3 {
			if with, err = toText(args, 2); err != nil {
				return nil, err
			}
		}
		if n > value.MaxString {
			return nil, tengo.ErrStringLimit
		}
		missing := int(n) - len(s)
		if missing <= 0 || with == "" {
			return str(s), nil
		}
		fill := strings.Repeat(with, missing/len(with)+1)
		if left {
			return str(fill[len(fill)-missing:] + s), nil
		}
		return str(s + fill[:missing]), nil
	}
}
