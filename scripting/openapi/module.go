package openapi

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// The lines between which a module has its table.
const (
	tableBegin = "export openapi.define(`\n"
	tableEnd   = "`)\n"
)

// write writes the module and the declaration.
func (i *importer) write() error {
	table := apitable.Format(&i.api, i.table, &i.doc.Types)
	if _, err := apitable.Parse(table); err != nil {
		return fmt.Errorf("the document's names can't be put into a table: %w", err)
	}
	i.out.Module = i.comment() + "openapi := import(\"openapi\")\n\n" + tableBegin + table + tableEnd
	if size := len(i.out.Module); size > maxModule {
		return fmt.Errorf("the module would have %d bytes, and a script may have %d: choose resources with --only; the largest are %s",
			size, maxModule, strings.Join(i.largest(), ", "))
	}
	declaration, err := i.declaration()
	i.out.Service = declaration
	return err
}

func (i *importer) comment() string {
	var b strings.Builder
	title := apitable.OneLine(i.api.Title)
	fmt.Fprintf(&b, "// %s: made from %s by thence service import; make it again rather than change it.\n//\n", title, apitable.OneLine(i.options.Source))
	fmt.Fprintf(&b, "//\t%s := import(%q)\n//\t%s.%s\n//\n", i.api.Name, i.api.Name, i.api.Name, i.table[0].FullName())
	fmt.Fprintf(&b, "// What comes back runs new_%s_response or new_%s_error, and for each operation so;\n", i.out.Example, i.out.Example)
	fmt.Fprintf(&b, "// where the library has no such script, new_%s_response and new_%s_error.\n", i.api.Name, i.api.Name)
	return b.String()
}

// largest are the resources with the most operations.
func (i *importer) largest() []string {
	count := map[string]int{}
	var names []string
	for _, op := range i.table {
		first, _, _ := strings.Cut(op.Resource, ".")
		if count[first]++; count[first] == 1 {
			names = append(names, first)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(count[b], count[a]) })
	names = names[:min(len(names), 10)]
	for n, name := range names {
		names[n] = fmt.Sprintf("%s (%d operations)", name, count[name])
	}
	return names
}

// declaration is the service for a worker's operator, as `thence worker --services` reads it.
func (i *importer) declaration() (string, error) {
	type header struct {
		Name   string `yaml:"name"`
		Secret string `yaml:"secret"`
	}
	type auth struct {
		Bearer string  `yaml:"bearer,omitempty"`
		Header *header `yaml:"header,omitempty"`
	}
	type service struct {
		URL  string `yaml:"url"`
		Auth *auth  `yaml:"auth,omitempty"`
	}
	s := service{URL: i.api.URL}
	switch a := i.api.Auth; {
	case a.Header == "" || i.basic:
	case a.Prefix == "Bearer ":
		s.Auth = &auth{Bearer: a.Secret}
	case a.Prefix == "":
		s.Auth = &auth{Header: &header{Name: a.Header, Secret: a.Secret}}
	}
	body, err := yaml.Marshal(map[string]map[string]service{"services": {i.api.Name: s}})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("# %s, made from %s by thence service import.\n%s", apitable.OneLine(i.api.Title), apitable.OneLine(i.options.Source), body), nil
}
