// Package servicefile reads the file in which the services of a worker pool are declared: a map of services by name,
// in YAML. Every field and value that it does not know is an error that names the line and, of a field, the nearest name
// that there is. One table of fields says what is read, what the JSON schema beside it holds (services.schema.json), and
// what the page about services lists.
//
// [Load] reads a file, [Watch] follows one as it changes.
package servicefile

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/thence-dev/thence/worker/calls"
)

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Load reads a file. The files that it names lie relative to it.
func Load(path string) ([]calls.Service, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: it has %d bytes, at most %d are read", path, len(b), maxFile)
	}
	return Parse(path, b)
}

// Parse reads what a file holds. Of several problems it returns all, in the order of their lines.
func Parse(path string, b []byte) ([]calls.Service, error) {
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, syntaxError(path, err)
	}
	r := &reader{path: path, dir: filepath.Dir(path)}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, fmt.Errorf("%s: want one document with the field services", path)
	}
	var services []calls.Service
	found := false
	r.fields(value{file.Docs[0].Body, ""}, []string{"services"}, func(_ string, _ ast.Node, all value) {
		services, found = r.services(all), true
	})
	if len(r.problems) == 0 && !found {
		r.problem(file.Docs[0].Body, "the field services is missing")
	}
	if len(r.problems) == 0 { // what is wrong with them together has no line
		if _, err := calls.NewServices(services...); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return services, r.err()
}

func syntaxError(path string, err error) error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p := at.GetToken().Position
	return fmt.Errorf("%s:%d:%d: %s", path, p.Line, p.Column, at.GetMessage())
}

// services reads the map of services.
func (r *reader) services(all value) []calls.Service {
	var services []calls.Service
	r.fields(all, nil, func(name string, key ast.Node, v value) {
		s, before := calls.Service{Name: name}, len(r.problems)
		if word, ok := v.word(); ok && word == "off" {
			s.Off = true
		} else {
			object(fields...).read(r, v, &s)
		}
		if len(r.problems) == before { // else it may lack what could not be read
			r.check(key, s, services)
		}
		services = append(services, s)
	})
	return services
}

// check says what is wrong with a service by itself, and with those before it.
func (r *reader) check(key ast.Node, s calls.Service, before []calls.Service) {
	if err := s.Check(); err != nil {
		r.problem(key, "%v", err)
	}
	for _, other := range before {
		if base := s.Shares(other); base != "" {
			r.problem(key, "service %s: the URL %s is that of the service %s as well", s.Name, base, other.Name)
		}
	}
}

// reader collects what is wrong with a file.
type reader struct {
	path, dir string
	problems  []problem
}

type problem struct {
	line, column int
	text         string
}

func (r *reader) problem(at ast.Node, format string, args ...any) {
	p := at.GetToken().Position
	r.problems = append(r.problems, problem{p.Line, p.Column, fmt.Sprintf(format, args...)})
}

func (r *reader) err() error {
	slices.SortStableFunc(r.problems, func(a, b problem) int { return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column)) })
	var all []error
	for _, p := range r.problems {
		all = append(all, fmt.Errorf("%s:%d:%d: %s", r.path, p.line, p.column, p.text))
	}
	return errors.Join(all...)
}

// fields walks over a map. known are the keys that there may be; nil: any.
func (r *reader) fields(v value, known []string, each func(name string, key ast.Node, v value)) {
	pairs, ok := mapping(v.node)
	if !ok {
		want := "fields"
		if known != nil {
			want += " (" + strings.Join(known, ", ") + ")"
		}
		r.problem(v.node, "%s: want %s, got %s", cmp.Or(v.path, "the file"), want, describe(v.node))
		return
	}
	for _, pair := range pairs {
		name := pair.Key.GetToken().Value
		if known != nil && !slices.Contains(known, name) {
			r.problem(pair.Key, "%s", unknown(name, known))
			continue
		}
		path := name
		if v.path != "" {
			path = v.path + "." + name
		}
		each(name, pair.Key, value{pair.Value, path})
	}
}

func mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	default:
		return nil, false
	}
}
