package apitable

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// API is a table that has been read. It does not change, and is safe for concurrent use.
type API struct {
	Name  string // the name of the module that scripts import
	Title string
	URL   string // base of all paths
	Auth  Auth
	// Indexed says that elements of a list in a URL or a form are numbered, as Stripe wants them: a[0]=x&a[1]=y. Else the
	// name is repeated: a=x&a=y.
	Indexed bool

	operations []*Operation
	root       *Resource
	lines      []string // of the types
	types      []atomic.Pointer[Type]
	first      int // the number of the first type's line, from 1
}

// Resource is a place in an API: what it holds, and what can be done there.
type Resource struct {
	Name       string // from the API on, such as stripe.checkout
	Resources  map[string]*Resource
	Operations map[string]*Operation
}

// Names are the names of all that is in the resource, in order.
func (r *Resource) Names() []string {
	var names []string
	for name := range r.Resources {
		names = append(names, name)
	}
	for name := range r.Operations {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Root is the resource that is the API itself.
func (a *API) Root() *Resource { return a.root }

// Operations are all operations, in the order of their names.
func (a *API) Operations() []*Operation { return a.operations }

const version = "thence-api 1"

// Parse reads a table. It keeps the text.
func Parse(text string) (*API, error) {
	first, text, _ := strings.Cut(text, "\n")
	if strings.TrimSuffix(first, "\r") != version {
		return nil, fmt.Errorf("this is no table of an API: it must begin with %q", version)
	}
	a := &API{}
	line := 1
	for text != "" {
		var l string
		l, text, _ = strings.Cut(text, "\n")
		line++
		if l == "" {
			break
		}
		if err := a.head(l); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	if !apiName().MatchString(a.Name) {
		return nil, fmt.Errorf("the name %q of the API can't be a module's: want a-z, 0-9 and _, at most 32 of them", a.Name)
	}
	if err := checkBase(a.URL); err != nil {
		return nil, err
	}
	a.first = line + 1
	if text = strings.TrimSuffix(text, "\n"); text != "" {
		a.lines = strings.Split(text, "\n")
	}
	a.types = make([]atomic.Pointer[Type], len(a.lines))
	if err := a.grow(); err != nil {
		return nil, err
	}
	return a, nil
}

var (
	apiName    = lazy(`^[a-z][a-z0-9_]{0,31}$`)
	callName   = lazy(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*){0,9}$`)
	scriptName = lazy(`^[a-z][a-z0-9_]{0,86}$`)
	methods    = []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
)

// lazy compiles an expression when it is first used: what a program that is to start quickly may never
// need should not cost it time.
func lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

func checkBase(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the URL %q of the API can't be used: want http(s)://host[/path]", s)
	}
	return nil
}

func (a *API) head(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "name":
		a.Name = rest
	case "title":
		a.Title = rest
	case "url":
		a.URL = strings.TrimSuffix(rest, "/")
	case "auth":
		return a.auth(strings.Fields(rest))
	case "lists":
		a.Indexed = rest == "indexed"
	case "op":
		op, err := parseOperation(rest)
		if err != nil {
			return err
		}
		a.operations = append(a.operations, op)
	default:
		return fmt.Errorf("the word %q has no meaning here", word)
	}
	return nil
}

func (a *API) auth(f []string) (err error) {
	if len(f) < 2 || len(f) > 3 {
		return errors.New("want auth HEADER SECRET [PREFIX]")
	}
	a.Auth = Auth{Header: f[0], Secret: f[1]}
	if len(f) == 3 {
		a.Auth.Prefix, err = unescape(f[2])
	}
	return err
}

func parseOperation(line string) (*Operation, error) {
	line, summary, _ := strings.Cut(line, " # ")
	f := strings.Fields(line)
	if len(f) < 6 {
		return nil, errors.New("want op NAME METHOD PATH SCRIPTS BODY TYPE")
	}
	op := &Operation{Verb: f[0], Method: f[1], Name: f[3], Body: Body(f[4]), Summary: summary}
	if dot := strings.LastIndexByte(f[0], '.'); dot >= 0 {
		op.Resource, op.Verb = f[0][:dot], f[0][dot+1:]
	}
	var err error
	if op.Path, err = unescape(f[2]); err != nil {
		return nil, err
	}
	if op.Params, err = strconv.Atoi(f[5]); err != nil {
		return nil, fmt.Errorf("operation %s: the type %q is no number", f[0], f[5])
	}
	for _, x := range f[6:] {
		if err := op.extra(x); err != nil {
			return nil, fmt.Errorf("operation %s: %w", f[0], err)
		}
	}
	if err := op.check(); err != nil {
		return nil, fmt.Errorf("operation %s: %w", f[0], err)
	}
	return op, nil
}

// CanName tells whether a table can have an operation of that name.
func CanName(name string) bool { return len(name) <= 200 && callName().MatchString(name) }

func (o *Operation) check() error {
	switch {
	case !CanName(o.FullName()):
		return errors.New("its name must be words of a-z, 0-9 and _, at most 10 with dots between them, and have 200 characters at most")
	case !slices.Contains(methods, o.Method):
		return fmt.Errorf("there are no requests %q: want one of %s", o.Method, strings.Join(methods, ", "))
	case !strings.HasPrefix(o.Path, "/") || strings.ContainsFunc(o.Path, func(c rune) bool { return c <= ' ' || strings.ContainsRune(`?#\`, c) }):
		return fmt.Errorf("%q is no path", o.Path)
	case !scriptName().MatchString(o.Name):
		return fmt.Errorf("scripts can't be called after %q", o.Name)
	case !slices.Contains([]Body{Query, Form, JSON, Multipart}, o.Body):
		return fmt.Errorf("parameters can't travel as %q", o.Body)
	case o.Base != "":
		return checkBase(o.Base)
	}
	return nil
}

func (o *Operation) extra(word string) (err error) {
	key, list, _ := strings.Cut(word, ":")
	switch key {
	case "query":
		o.Query, err = names(list)
	case "header":
		o.Header, err = names(list)
	case "comma":
		o.Comma, err = names(list)
	case "whole":
		o.Whole, err = unescape(list)
	case "at":
		o.Base, err = unescape(list)
	default:
		err = fmt.Errorf("the word %q has no meaning here", word)
	}
	return err
}

func names(list string) ([]string, error) {
	all := strings.Split(list, ",")
	for i, s := range all {
		var err error
		if all[i], err = unescape(s); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// grow makes the tree of resources.
func (a *API) grow() error {
	a.root = &Resource{Name: a.Name, Resources: map[string]*Resource{}, Operations: map[string]*Operation{}}
	for _, op := range a.operations {
		r := a.root
		for name := range strings.SplitSeq(op.Resource, ".") {
			if name == "" {
				break
			}
			r = r.child(name)
		}
		if r.Operations[op.Verb] != nil {
			return fmt.Errorf("the operation %s stands in the table twice", op.FullName())
		}
		r.Operations[op.Verb] = op
	}
	return a.root.clash()
}

func (r *Resource) child(name string) *Resource {
	c := r.Resources[name]
	if c == nil {
		c = &Resource{Name: r.Name + "." + name, Resources: map[string]*Resource{}, Operations: map[string]*Operation{}}
		r.Resources[name] = c
	}
	return c
}

// clash finds a name that is both a resource and an operation.
func (r *Resource) clash() error {
	for name, child := range r.Resources {
		if r.Operations[name] != nil {
			return fmt.Errorf("%s is both an operation and a resource", child.Name)
		}
		if err := child.clash(); err != nil {
			return err
		}
	}
	return nil
}

// Type reads the type with this number.
func (a *API) Type(n int) (*Type, error) {
	if n < 0 || n >= len(a.lines) {
		return nil, fmt.Errorf("the table of %s has no type %d", a.Name, n)
	}
	if t := a.types[n].Load(); t != nil {
		return t, nil
	}
	t, err := parseType(a.lines[n], n)
	for _, of := range t.Of {
		if strings.HasPrefix(a.lines[of], "union ") {
			err = fmt.Errorf("type %d is a union too: name its types instead", of)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the table of %s, line %d: %w", a.Name, a.first+n, err)
	}
	a.types[n].Store(t)
	return t, nil
}

// Types is how many types there are.
func (a *API) Types() int { return len(a.lines) }

func parseType(line string, n int) (*Type, error) {
	f := strings.Fields(line)
	if len(f) == 0 {
		return &Type{}, errors.New("want a type")
	}
	kind := slices.Index(words, f[0])
	if kind < 0 {
		return &Type{}, fmt.Errorf("there is no kind of type called %q", f[0])
	}
	t := &Type{Kind: Kind(kind), Rest: -1}
	f = f[1:]
	want := 0
	var err error
	switch t.Kind {
	case String:
		if len(f) > 0 {
			want = 1
			t.Most, err = strconv.Atoi(f[0])
		}
	case Enum, Open:
		want = len(f)
		t.Values, err = values(f)
	case Array, Map:
		if want = 1; len(f) == 1 {
			t.Elem, err = reference(f[0], n)
		}
	case Object:
		want, err = len(f), t.props(f, n)
	case Union:
		want, err = len(f), t.union(f, n)
	}
	if err == nil && len(f) != want {
		err = fmt.Errorf("want %d words after %s, got %d", want, t.Kind, len(f))
	}
	return t, err
}

func values(f []string) ([]string, error) {
	all := make([]string, len(f))
	for i, s := range f {
		var err error
		if all[i], err = unescape(s); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// reference reads the number of another type. Types stand above those that are made of them, so that none contains
// itself.
func reference(s string, n int) (int, error) {
	i, err := strconv.Atoi(s)
	if err != nil || i < 0 || i >= n {
		return 0, fmt.Errorf("%q is not the number of a type above this one", s)
	}
	return i, nil
}

func (t *Type) props(f []string, n int) error {
	for _, word := range f {
		key, num, _ := strings.Cut(word, ":")
		typ, err := reference(num, n)
		if err != nil {
			return err
		}
		if key == "*" {
			t.Rest = typ
			continue
		}
		bare, required := strings.CutSuffix(key, "!")
		name, err := unescape(bare)
		if err != nil {
			return err
		}
		t.Props = append(t.Props, Prop{name, required, typ})
	}
	return nil
}

func (t *Type) union(f []string, n int) error {
	for _, word := range f {
		typ, err := reference(word, n)
		if err != nil {
			return err
		}
		t.Of = append(t.Of, typ)
	}
	return nil
}
