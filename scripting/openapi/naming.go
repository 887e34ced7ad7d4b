package openapi

import (
	"slices"
	"strings"

	"github.com/thence-dev/thence/scripting/internal/apidoc"
	"github.com/thence-dev/thence/scripting/internal/apitable"
)

// keywords are Tengo's, which can't stand behind a dot.
var keywords = []string{"break", "continue", "else", "error", "export", "false", "for", "func", "if", "immutable", "import", "in",
	"return", "true", "undefined"}

// identifier is a word as it can stand behind a dot.
func identifier(word string) string {
	if slices.Contains(keywords, word) {
		return word + "_"
	}
	if word[0] >= '0' && word[0] <= '9' {
		return "_" + word
	}
	return word
}

// maxScript is how long the name may be that an operation's scripts are called after: new_<name>_response is at most 100.
const maxScript = 100 - len("new__response")

// named gives every operation its name, by its path. Where two would have the same, the second is called by its
// operationId. skip takes those that can't be named.
func named(all []apidoc.Operation, module string, skip func(op apidoc.Operation, reason string)) []apitable.Operation {
	n := &namer{taken: map[string]bool{}, resources: map[string]bool{}, scripts: map[string]bool{}}
	var out []apitable.Operation
	for i, op := range n.byPath(all, module) {
		if !n.verb(&op, all[i].ID) {
			skip(all[i], "the name "+op.FullName()+" is taken, and it has no operationId that could be its name")
			continue
		}
		if !n.script(&op, module) {
			skip(all[i], "its name would be too long, or the names of its scripts be taken or too long")
			continue
		}
		out = append(out, op)
	}
	return out
}

// namer knows which names are taken.
type namer struct {
	taken     map[string]bool // full names of operations
	resources map[string]bool
	scripts   map[string]bool
}

// byPath names all operations by their paths, whether the names are free or not.
func (n *namer) byPath(all []apidoc.Operation, module string) []apitable.Operation {
	paths := apidoc.PathsOf(all)
	table := make([]apitable.Operation, len(all))
	for i, op := range all {
		resource, verb := paths.Name(op)
		for k, word := range resource {
			resource[k] = identifier(word)
		}
		if len(resource) > 0 && resource[0] == "configure" { // each module has a function of that name
			resource[0] = "configure_"
		}
		for k := range resource {
			n.resources[strings.Join(resource[:k+1], ".")] = true
		}
		table[i] = op.Table
		table[i].Resource, table[i].Verb = strings.Join(resource, "."), verb
	}
	paths.ScriptNames(table, module+"_")
	return table
}

// verb finds a verb that is free: the one of the path, or the operationId.
func (n *namer) verb(op *apitable.Operation, id string) bool {
	verbs := []string{op.Verb}
	if s := apidoc.Snake(id); s != "" {
		verbs = append(verbs, s)
	}
	for i, verb := range verbs {
		if verb == "" {
			continue
		}
		op.Verb = identifier(verb)
		full := op.FullName()
		if n.taken[full] || n.resources[full] {
			continue
		}
		n.taken[full] = true
		if i > 0 { // the scripts' name was made of the other one
			op.Name = ""
		}
		return true
	}
	return false
}

// script makes sure that the scripts' name is free, and no longer than a script's name can be.
func (n *namer) script(op *apitable.Operation, module string) bool {
	if op.Name == "" || n.scripts[op.Name] {
		op.Name = module + "_" + strings.ReplaceAll(op.FullName(), ".", "_")
	}
	if n.scripts[op.Name] || len(op.Name) > maxScript || !apitable.CanName(op.FullName()) {
		return false
	}
	n.scripts[op.Name] = true
	return true
}
