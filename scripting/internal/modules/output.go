package modules

import (
	"strings"
	"unicode/utf8"
)

// output collects what a script prints, as text, up to a limit.
type output struct {
	text  strings.Builder
	limit int
	cut   bool
}

func (o *output) write(s string) {
	if o.cut {
		return
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if room := o.limit - o.text.Len(); len(s) > room {
		o.cut = true
		for room > 0 && !utf8.RuneStart(s[room]) {
			room--
		}
		s = s[:max(room, 0)]
	}
	o.text.WriteString(s)
}
