package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/thence-dev/thence/scripting"
)

// steers tells whether a character can move a terminal's cursor or turn text around. What callers, scripts and APIs
// wrote is printed without them.
func steers(r rune) bool {
	return unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x2028 || r == 0x2029
}

// plain makes a text fit for one line of a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// plainText is plain for texts of several lines.
func plainText(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = plain(strings.ReplaceAll(strings.TrimSuffix(lines[i], "\r"), "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// plainSource is plain for the source of a script, which keeps its tabs: it may be written to a file.
func plainSource(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) && r != '\n' && r != '\t' {
			return '\uFFFD'
		}
		return r
	}, s)
}

// plainJSON escapes in encoded JSON what encoding/json lets pass and a terminal does not. The value stays the same.
func plainJSON(encoded []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(encoded) {
		if steers(r) && r != '\n' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// compactJSON is a value in one line, safe to print.
func compactJSON(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return plain(string(raw))
	}
	return string(plainJSON(b.Bytes()))
}

// brief is the first line of a text, cut to what a terminal's line holds.
func brief(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return cut(s, 100)
}

// cut shortens a line to a number of characters.
func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(0, width-1)]) + "…"
	}
	return s
}

// wrap breaks a line behind commas and spaces, so that no part has more than width characters; where there are none,
// anywhere.
func wrap(s string, width int) []string {
	var lines []string
	rest := []rune(s)
	for len(rest) > width {
		at := width
		for at > width/2 && rest[at-1] != ',' && rest[at-1] != ' ' {
			at--
		}
		if at == width/2 {
			at = width
		}
		lines = append(lines, strings.TrimRight(string(rest[:at]), " "))
		rest = rest[at:]
	}
	return append(lines, string(rest))
}

// many is a number of what is counted, in words.
func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// explain is an error of a script with its place, the line it is in, and the calls that led there.
func explain(e scripting.Error) string {
	if e.Script == "" || e.Line == 0 {
		return plainText(e.Message)
	}
	return plainText(e.Error())
}
