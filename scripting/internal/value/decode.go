package value

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/d5/tengo/v2"
)

// Decode reads one JSON value. A number with a point or an exponent is a float, any other an int; an int that does not
// fit into 64 bits becomes a float. null is undefined. Of several members with one key the last counts.
func Decode(data []byte) (tengo.Object, error) {
	d := decoder{src: string(data)}
	o, err := d.value(0)
	if err == nil {
		err = d.end()
	}
	if err != nil {
		return nil, err
	}
	return o, nil
}

// Member is one member of a JSON object, its value not decoded.
type Member struct {
	Key string
	Raw string
}

// Members splits a JSON object into its members, in the order in which they stand there, and checks that all of it is
// JSON.
func Members(data []byte) ([]Member, error) {
	d := decoder{src: string(data)}
	var members []Member
	if d.space(); d.peek() != '{' {
		return nil, errors.New("not a JSON object")
	}
	err := d.members(func(key string) error {
		start := d.pos
		if _, err := d.value(1); err != nil {
			return err
		}
		members = append(members, Member{key, d.src[start:d.pos]})
		return nil
	})
	if err == nil {
		err = d.end()
	}
	return members, err
}

type decoder struct {
	src string
	pos int
}

func (d *decoder) fail(format string, args ...any) error {
	return fmt.Errorf("not valid JSON: %s at byte %d", fmt.Sprintf(format, args...), d.pos)
}

func (d *decoder) space() {
	for d.pos < len(d.src) {
		switch d.src[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end.
func (d *decoder) peek() byte {
	if d.pos < len(d.src) {
		return d.src[d.pos]
	}
	return 0
}

func (d *decoder) end() error {
	if d.space(); d.pos < len(d.src) {
		return d.fail("something follows the value")
	}
	return nil
}

func (d *decoder) value(depth int) (tengo.Object, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("JSON nests deeper than %d levels", MaxDepth)
	}
	d.space()
	switch c := d.peek(); {
	case c == '{':
		return d.object(depth)
	case c == '[':
		return d.array(depth)
	case c == '"':
		s, err := d.text()
		if err != nil {
			return nil, err
		}
		return &tengo.String{Value: s}, nil
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	}
	return d.word()
}

func (d *decoder) word() (tengo.Object, error) {
	rest := d.src[d.pos:]
	switch {
	case strings.HasPrefix(rest, "true"):
		d.pos += 4
		return tengo.TrueValue, nil
	case strings.HasPrefix(rest, "false"):
		d.pos += 5
		return tengo.FalseValue, nil
	case strings.HasPrefix(rest, "null"):
		d.pos += 4
		return tengo.UndefinedValue, nil
	case rest == "":
		return nil, d.fail("a value is missing")
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return nil, d.fail("unexpected %q", r)
}

func (d *decoder) object(depth int) (tengo.Object, error) {
	var entries []entry
	err := d.members(func(key string) error {
		v, err := d.value(depth + 1)
		entries = append(entries, entry{key, v})
		return err
	})
	if err != nil {
		return nil, err
	}
	return fromEntries(entries), nil
}

// members reads an object, and has each read the value that follows a key.
func (d *decoder) members(each func(key string) error) error {
	d.pos++
	if d.space(); d.peek() == '}' {
		d.pos++
		return nil
	}
	for {
		if d.space(); d.peek() != '"' {
			return d.fail("a key is missing")
		}
		key, err := d.text()
		if err != nil {
			return err
		}
		if d.space(); d.peek() != ':' {
			return d.fail("a colon is missing")
		}
		d.pos++
		d.space()
		if err := each(key); err != nil {
			return err
		}
		if more, err := d.more('}'); err != nil || !more {
			return err
		}
	}
}

// more reads a comma, or the closing byte.
func (d *decoder) more(closing byte) (bool, error) {
	d.space()
	switch d.peek() {
	case ',':
		d.pos++
		return true, nil
	case closing:
		d.pos++
		return false, nil
	}
	return false, d.fail("a comma or %q is missing", closing)
}

func (d *decoder) array(depth int) (tengo.Object, error) {
	d.pos++
	if d.space(); d.peek() == ']' {
		d.pos++
		return NewArray(nil), nil
	}
	var items []tengo.Object
	for {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
		more, err := d.more(']')
		if err != nil {
			return nil, err
		}
		if !more {
			return NewArray(items), nil
		}
	}
}

func (d *decoder) number() (tengo.Object, error) {
	start, float := d.pos, false
	if d.peek() == '-' {
		d.pos++
	}
	zero := d.peek() == '0'
	if n := d.digits(); n == 0 || zero && n > 1 {
		return nil, d.fail("a bad number")
	}
	if d.peek() == '.' {
		d.pos++
		if float = true; d.digits() == 0 {
			return nil, d.fail("a bad number")
		}
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		d.pos++
		if c := d.peek(); c == '+' || c == '-' {
			d.pos++
		}
		if float = true; d.digits() == 0 {
			return nil, d.fail("a bad number")
		}
	}
	return number(d.src[start:d.pos], float)
}

func (d *decoder) digits() int {
	start := d.pos
	for c := d.peek(); c >= '0' && c <= '9'; c = d.peek() {
		d.pos++
	}
	return d.pos - start
}

func number(s string, float bool) (tengo.Object, error) {
	if !float {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return &tengo.Int{Value: i}, nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("the number %s does not fit into a float", shorten(s))
	}
	return &tengo.Float{Value: f}, nil
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}

// text reads a string. One without escapes is a part of the source.
func (d *decoder) text() (string, error) {
	d.pos++
	start := d.pos
	ascii := true
	for d.pos < len(d.src) {
		switch c := d.src[d.pos]; {
		case c == '"':
			s := d.src[start:d.pos]
			if !ascii && !utf8.ValidString(s) {
				return "", d.fail("text that is not UTF-8")
			}
			d.pos++
			return s, nil
		case c == '\\':
			return d.escaped(start)
		case c < ' ':
			return "", d.fail("a control character in a string")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		d.pos++
	}
	return "", d.fail("a string does not end")
}

func (d *decoder) escaped(start int) (string, error) {
	buf := []byte(d.src[start:d.pos])
	for d.pos < len(d.src) {
		c := d.src[d.pos]
		d.pos++
		switch {
		case c == '"':
			if !utf8.Valid(buf) {
				return "", d.fail("text that is not UTF-8")
			}
			return string(buf), nil
		case c < ' ':
			return "", d.fail("a control character in a string")
		case c != '\\':
			buf = append(buf, c)
		default:
			var err error
			if buf, err = d.escape(buf); err != nil {
				return "", err
			}
		}
	}
	return "", d.fail("a string does not end")
}

func (d *decoder) escape(buf []byte) ([]byte, error) {
	c := d.peek()
	d.pos++
	switch c {
	case '"', '\\', '/':
		return append(buf, c), nil
	case 'b':
		return append(buf, '\b'), nil
	case 'f':
		return append(buf, '\f'), nil
	case 'n':
		return append(buf, '\n'), nil
	case 'r':
		return append(buf, '\r'), nil
	case 't':
		return append(buf, '\t'), nil
	case 'u':
		return d.unicode(buf)
	}
	return nil, d.fail("a bad escape in a string")
}

// unicode reads the digits of \uXXXX, and the second half of a pair. Half a pair becomes U+FFFD.
func (d *decoder) unicode(buf []byte) ([]byte, error) {
	r, err := d.hex()
	if err != nil {
		return nil, err
	}
	if utf16.IsSurrogate(r) {
		if !strings.HasPrefix(d.src[d.pos:], `\u`) {
			return utf8.AppendRune(buf, utf8.RuneError), nil
		}
		back := d.pos
		d.pos += 2
		low, err := d.hex()
		if err != nil {
			return nil, err
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return utf8.AppendRune(buf, pair), nil
		}
		d.pos = back
		return utf8.AppendRune(buf, utf8.RuneError), nil
	}
	return utf8.AppendRune(buf, r), nil
}

func (d *decoder) hex() (rune, error) {
	if d.pos+4 > len(d.src) {
		return 0, d.fail("a bad escape in a string")
	}
	n, err := strconv.ParseUint(d.src[d.pos:d.pos+4], 16, 32)
	if err != nil {
		return 0, d.fail("a bad escape in a string")
	}
	d.pos += 4
	return rune(n), nil
}
