package apitable

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Builder collects types, each once. The zero Builder is empty and ready to use.
type Builder struct {
	lines []string
	types []Type
	ids   map[string]int
}

// Add returns the number of a type. The types that it is made of must have been added before.
func (b *Builder) Add(t Type) int {
	line := typeLine(t)
	if id, ok := b.ids[line]; ok {
		return id
	}
	if b.ids == nil {
		b.ids = map[string]int{}
	}
	b.ids[line] = len(b.lines)
	b.lines, b.types = append(b.lines, line), append(b.types, t)
	return len(b.lines) - 1
}

// Type returns a type that has been added.
func (b *Builder) Type(n int) Type { return b.types[n] }

func typeLine(t Type) string {
	line := []string{t.Kind.String()}
	switch t.Kind {
	case String:
		if t.Most > 0 {
			line = append(line, strconv.Itoa(t.Most))
		}
	case Enum, Open:
		for _, v := range t.Values {
			line = append(line, escape(v, ""))
		}
	case Array, Map:
		line = append(line, strconv.Itoa(t.Elem))
	case Object:
		line = append(line, propWords(t)...)
	case Union:
		for _, n := range t.Of {
			line = append(line, strconv.Itoa(n))
		}
	}
	return strings.Join(line, " ")
}

func sorted(props []Prop) []Prop {
	return slices.SortedFunc(slices.Values(props), func(a, b Prop) int { return cmp.Compare(a.Name, b.Name) })
}

func propWords(t Type) []string {
	var line []string
	for _, p := range sorted(t.Props) {
		mark := ""
		if p.Required {
			mark = "!"
		}
		line = append(line, escape(p.Name, ":!*")+mark+":"+strconv.Itoa(p.Type))
	}
	if t.Rest >= 0 {
		line = append(line, "*:"+strconv.Itoa(t.Rest))
	}
	return line
}

// Format writes a table of the operations, and of those types in b that they use. The operations' order does not matter.
func Format(a *API, operations []Operation, b *Builder) string {
	operations = slices.SortedFunc(slices.Values(operations), func(a, b Operation) int {
		return cmp.Compare(a.FullName(), b.FullName())
	})
	kept, moved := &Builder{}, map[int]int{}
	var out strings.Builder
	out.WriteString(version + "\n")
	field := func(word, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%s %s\n", word, value)
		}
	}
	field("name", a.Name)
	field("title", OneLine(a.Title))
	field("url", a.URL)
	if a.Auth.Header != "" {
		field("auth", strings.TrimSuffix(a.Auth.Header+" "+a.Auth.Secret+" "+escape(a.Auth.Prefix, ""), " %"))
	}
	if a.Indexed {
		field("lists", "indexed")
	}
	for _, op := range operations {
		op.Params = b.copy(op.Params, kept, moved)
		field("op", operationLine(op))
	}
	out.WriteString("\n" + strings.Join(kept.lines, "\n") + "\n")
	return out.String()
}

// copy adds a type to another builder, after those that it is made of. moved has the new numbers.
func (b *Builder) copy(n int, to *Builder, moved map[int]int) int {
	if id, ok := moved[n]; ok {
		return id
	}
	t := b.types[n]
	switch t.Kind {
	case Array, Map:
		t.Elem = b.copy(t.Elem, to, moved)
	case Object:
		t.Props = sorted(t.Props)
		for i := range t.Props {
			t.Props[i].Type = b.copy(t.Props[i].Type, to, moved)
		}
		if t.Rest >= 0 {
			t.Rest = b.copy(t.Rest, to, moved)
		}
	case Union:
		t.Of = slices.Clone(t.Of)
		for i := range t.Of {
			t.Of[i] = b.copy(t.Of[i], to, moved)
		}
	}
	moved[n] = to.Add(t)
	return moved[n]
}

func operationLine(op Operation) string {
	line := []string{op.FullName(), op.Method, escape(op.Path, ""), op.Name, string(op.Body), strconv.Itoa(op.Params)}
	list := func(word string, names []string) {
		if len(names) == 0 {
			return
		}
		all := make([]string, len(names))
		for i, name := range names {
			all[i] = escape(name, ",")
		}
		line = append(line, word+":"+strings.Join(all, ","))
	}
	if op.Body != Query {
		list("query", op.Query)
	}
	list("header", op.Header)
	list("comma", op.Comma)
	if op.Whole != "" {
		line = append(line, "whole:"+escape(op.Whole, ""))
	}
	if op.Base != "" {
		line = append(line, "at:"+escape(op.Base, ""))
	}
	if s := OneLine(op.Summary); s != "" {
		line = append(line, "#", s)
	}
	return strings.Join(line, " ")
}

// OneLine has the words of a text on one line, and no backquote, which would end the text in a script.
func OneLine(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "`", "'")
}
