package compile

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Prescan refuses a source that Tengo's parser should not see: one that is not text, or so deep that parsing it would
// take all of the stack. It returns the offset at which the trouble is.
func Prescan(src string) (offset int, err error) {
	if len(src) > MaxSource {
		return 0, fmt.Errorf("the source has %d bytes, more than %d", len(src), MaxSource)
	}
	if !utf8.ValidString(src) {
		return invalidAt(src), fmt.Errorf("the source is not valid UTF-8")
	}
	if i := strings.IndexByte(src, 0); i >= 0 {
		return i, fmt.Errorf("the source has a NUL byte")
	}
	return nesting(src)
}

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

// nesting counts brackets and runs of unary operators outside strings and comments.
func nesting(src string) (int, error) {
	depth, unary := 0, 0
	for i := 0; i < len(src); i++ {
		switch c := src[i]; c {
		case '(', '[', '{':
			if depth++; depth > maxBrackets {
				return i, fmt.Errorf("brackets nest deeper than %d levels", maxBrackets)
			}
			unary = 0
		case ')', ']', '}':
			depth--
			unary = 0
		case '!', '+', '-', '^':
			if unary++; unary > maxUnary {
				return i, fmt.Errorf("more than %d operators in a row", maxUnary)
			}
		case ' ', '\t', '\r', '\n':
		case '"', '\'', '`', '/':
			i = skip(src, i)
			unary = 0
		default:
			unary = 0
		}
	}
	return 0, nil
}

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
