// Package openapi makes modules for scripts of other people's APIs: [Import] reads an OpenAPI document, and writes a
// library script that others import, and a declaration of the service. [Show] tells what an operation of such a module,
// or of the module stripe, takes.
//
// The script that Import writes is a table of the API's operations between a few lines of Tengo. Put it into the library
// beside one's own: there is nothing else to install, it is part of each release, and a person can read it. What a table
// is stands in the package apitable.
package openapi

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/thence-dev/thence/scripting/internal/apidoc"
	"github.com/thence-dev/thence/scripting/internal/apitable"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

// Options say how a document is imported.
type Options struct {
	Name   string   // what scripts import, and the service's name
	Source string   // what to call the document in comments
	URL    string   // where the API is; empty: the document's first server
	Only   []string // resources to import, with what is below them; empty: all
}

// Imported is what came of a document.
type Imported struct {
	Module     string   // the library script NAME.tengo
	Service    string   // the declaration of the service, YAML
	Title      string   // the API's, with its version
	URL        string   // where the API is
	Secret     string   // name of the secret that calls carry; empty: they carry none
	Operations []string // as scripts call them, in order
	Example    string   // the name that the first operation's scripts are called after
	Skipped    []string // operations that are left out, each with its line and the reason
	Notes      []string // what else a person should know
}

// maxModule is what a library's script may have, in bytes.
const maxModule = 64 << 10

var moduleName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Import reads a document. It fails for one that nothing can be made of; operations that can't be expressed are in
// Skipped.
func Import(document []byte, o Options) (*Imported, error) {
	if err := o.checkName(); err != nil {
		return nil, err
	}
	doc, err := apidoc.Load(document)
	if err != nil {
		return nil, err
	}
	i := &importer{options: o, doc: doc, out: &Imported{Title: doc.Title()}}
	if err := i.server(); err != nil {
		return nil, err
	}
	i.auth()
	if err := i.operations(); err != nil {
		return nil, err
	}
	return i.out, i.write()
}

func (o Options) checkName() error {
	switch {
	case !moduleName.MatchString(o.Name):
		return fmt.Errorf("%q can't be a module's name: want a-z, 0-9 and _, a letter first, at most 32 of them", o.Name)
	case slices.Contains(modules.Names(), o.Name):
		return fmt.Errorf("the name %s is taken by a module that scripts can import already: choose another", o.Name)
	case o.Name == "default":
		return errors.New("the name default stands for the calls of no service: choose another")
	}
	return nil
}

// importer holds a document on its way to a module.
type importer struct {
	options Options
	doc     *apidoc.Document
	api     apitable.API
	table   []apitable.Operation
	out     *Imported
	basic   bool
}

func (i *importer) note(format string, args ...any) {
	i.out.Notes = append(i.out.Notes, fmt.Sprintf(format, args...))
}

// server finds where the API is.
func (i *importer) server() error {
	at := i.options.URL
	if at == "" {
		at = i.doc.Server()
	}
	switch err := checkURL(at); {
	case at == "":
		return errors.New("the document does not say where the API is: say it with --url")
	case err != nil && i.options.URL == "":
		return fmt.Errorf("the document says that the API is at %q, which is %w: say it with --url", at, err)
	case err != nil:
		return fmt.Errorf("%q is %w", at, err)
	}
	i.api = apitable.API{Name: i.options.Name, Title: i.doc.Title(), URL: strings.TrimSuffix(at, "/")}
	i.out.URL = i.api.URL
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil ||
		strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || strings.ContainsRune("{}`%", c) }) {
		return errors.New("no base such as https://host/path")
	}
	return nil
}

// auth chooses the first way to authenticate that a line of the header can do.
func (i *importer) auth() {
	usable, unusable := i.doc.Schemes()
	for _, s := range unusable {
		i.note("security scheme %s", s)
	}
	usable = slices.DeleteFunc(usable, func(s apidoc.Scheme) bool { return !headerName.MatchString(s.Header) })
	if len(usable) == 0 {
		return
	}
	s := usable[0]
	i.out.Secret = i.options.Name + "_key"
	i.api.Auth = apitable.Auth{Header: s.Header, Prefix: s.Prefix, Secret: i.out.Secret}
	if i.basic = s.Kind == "basic"; i.basic {
		i.note("the secret %s is user:password in base64, as in `printf user:password | base64`", i.out.Secret)
	}
	for _, other := range usable[1:] {
		i.note("security scheme %s is not used: calls authenticate by %s", other.Name, s.Name)
	}
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$&'*+.^_|~-]+$")

// operations reads, names and checks the operations.
func (i *importer) operations() error {
	all, skipped := i.doc.Operations()
	for _, s := range skipped {
		i.out.Skipped = append(i.out.Skipped, s.String())
	}
	skip := func(op apidoc.Operation, reason string) {
		i.out.Skipped = append(i.out.Skipped, apidoc.Skipped{Line: op.Line, Operation: op.Table.Method + " " + op.Table.Path, Reason: reason}.String())
	}
	i.table = i.chosen(named(all, i.options.Name, skip))
	if len(i.table) == 0 && len(i.options.Only) > 0 {
		return fmt.Errorf("no operation is in %s: there are %s", strings.Join(i.options.Only, ", "), strings.Join(resources(all), ", "))
	}
	if len(i.table) == 0 {
		return fmt.Errorf("no operation of the document can be called:\n  %s", strings.Join(i.out.Skipped, "\n  "))
	}
	slices.SortFunc(i.table, func(a, b apitable.Operation) int { return strings.Compare(a.FullName(), b.FullName()) })
	i.out.Example = i.table[0].Name
	for n := range i.table {
		i.elsewhere(&i.table[n])
		i.out.Operations = append(i.out.Operations, i.options.Name+"."+i.table[n].FullName())
	}
	if i.doc.Cycles > 0 {
		i.note("schemas that contain themselves are checked down to where they begin again")
	}
	return nil
}

// chosen are the operations of the resources that were asked for.
func (i *importer) chosen(all []apitable.Operation) []apitable.Operation {
	if len(i.options.Only) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(op apitable.Operation) bool {
		return !slices.ContainsFunc(i.options.Only, func(r string) bool {
			return op.Resource == r || strings.HasPrefix(op.Resource, r+".") || op.FullName() == r
		})
	})
}

// elsewhere deals with an operation that has a server of its own.
func (i *importer) elsewhere(op *apitable.Operation) {
	if op.Base == "" || op.Base == i.api.URL || op.Base == i.doc.Server() {
		op.Base = ""
		return
	}
	if err := checkURL(op.Base); err != nil {
		i.note("%s: its server %q is %s: the API's is called", op.FullName(), op.Base, err)
		op.Base = ""
	} else {
		i.note("%s is at %s: declare that as part of the service, as no secret is sent to others", op.FullName(), op.Base)
	}
}

// resources are the first words of all operations.
func resources(all []apidoc.Operation) []string {
	var names []string
	for _, op := range all {
		if words := apidoc.Literals(op.Table.Path); len(words) > 0 {
			names = append(names, identifier(words[0]))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
