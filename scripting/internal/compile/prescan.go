package compile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// prescan refuses a source that Tengo's parser should not see: one that is not text, or so deep that parsing it would
// take all of the stack. It returns the offset at which the trouble is, or how near to it the source comes.
func prescan(src string) (most shape, offset int, err error) {
	if len(src) > MaxSource {
		return most, 0, fmt.Errorf("the source has %d bytes, more than %d", len(src), MaxSource)
	}
	if !utf8.ValidString(src) {
		return most, invalidAt(src), fmt.Errorf("the source is not valid UTF-8")
	}
	if i := strings.IndexByte(src, 0); i >= 0 {
		return most, i, fmt.Errorf("the source has a NUL byte")
	}
	offset, err = most.nesting(src)
	return most, offset, err
}

// shape is what of a source's bytes is bounded.
type shape struct{ brackets, comments, chained int }

func invalidAt(src string) int {
	for i, r := range src {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(src[i:]); size == 1 {
				return i
			}
		}
	}
	return 0
}

// nesting follows what makes the parser call itself: brackets, runs of unary operators, comments in a row, and chains of
// else and of conditional expressions, which nest in the syntax tree and not in the source. Strings do not count.
func (s *shape) nesting(src string) (int, error) {
	var depth, unary, comments, chained int
	for i := 0; i < len(src); i++ {
		c := src[i]
		if isSpace(c) {
			continue
		}
		end := i
		if strings.IndexByte("\"'`/", c) >= 0 {
			end = skip(src, i)
		}
		if c == '/' && end > i {
			comments, i = comments+1, end
			if s.comments = max(s.comments, comments); comments > maxComments {
				return i, fmt.Errorf("more than %d comments in a row", maxComments)
			}
			continue
		}
		comments, i = 0, end
		if strings.IndexByte("!+-^", c) < 0 {
			unary = 0
		} else if unary++; unary > maxUnary {
			return i, fmt.Errorf("more than %d operators in a row", maxUnary)
		}
		switch {
		case c == '(' || c == '[' || c == '{':
			depth++
			if s.brackets = max(s.brackets, depth); depth > maxBrackets {
				return i, fmt.Errorf("brackets nest deeper than %d levels", maxBrackets)
			}
		case c == ')' || c == ']' || c == '}':
			depth--
		case c == '?' || c == 'e' && strings.HasPrefix(src[i:], "else"):
			chained++
			if s.chained = chained; chained > maxChained {
				return i, fmt.Errorf("more than %d else and ? together", maxChained)
			}
		}
	}
	return 0, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skip returns the last byte of the string or comment that starts at i, or i when none does.
func skip(src string, i int) int {
	rest := src[i:]
	switch {
	case strings.HasPrefix(rest, "//"):
		return ending(src, i, strings.IndexByte(rest, '\n'))
	case strings.HasPrefix(rest, "/*"):
		if j := strings.Index(rest[2:], "*/"); j >= 0 {
			return i + 2 + j + 1
		}
		return len(src)
	case rest[0] == '/':
		return i
	case rest[0] == '`':
		if j := strings.IndexByte(rest[1:], '`'); j >= 0 {
			return i + 1 + j
		}
		return len(src)
	}
	return quoted(src, i)
}

func ending(src string, i, n int) int {
	if n < 0 {
		return len(src)
	}
	return i + n
}

// quoted finds the quote that closes the one at i; such a string ends with its line.
func quoted(src string, i int) int {
	for j := i + 1; j < len(src); j++ {
		switch src[j] {
		case '\\':
			j++
		case '\n', src[i]:
			return j
		}
	}
	return len(src)
}
