package compile

import (
	"reflect"
	"slices"

	"github.com/d5/tengo/v2/parser"
	"github.com/d5/tengo/v2/token"
)

// Reference is a script's name that a source gives as a literal option of a module's function.
type Reference struct {
	Module string // of the function that is called
	Option string // "then", "catch" or "script"
	Name   string
	Position
}

// References finds the names of scripts that a source gives where it calls a module's function: then and catch in the
// options of http's functions, and of the operations of APIs, and script and catch in those of flow.dispatch, unless that
// names a pool. They are found when they are literals in a literal map; what is put together as the script runs is not. api tells
// whether a module is an API's. The source must be one that compiles.
func References(name, src string, api func(module string) bool) []Reference {
	r := &references{set: parser.NewFileSet(), api: api, modules: map[string]string{}}
	file := r.set.AddFile("0", -1, len(src))
	r.files = []File{{name, src}}
	tree, err := parser.NewParser(file, []byte(src), nil).ParseFile()
	if err != nil {
		return nil
	}
	walk(tree.Stmts, r.bind)
	walk(tree.Stmts, r.visit)
	return r.found
}

// CallsModule tells whether a source calls a module's function of that name.
func CallsModule(src, module, function string) bool {
	r := &references{set: parser.NewFileSet(), modules: map[string]string{}}
	tree, err := parser.NewParser(r.set.AddFile("0", -1, len(src)), []byte(src), nil).ParseFile()
	if err != nil {
		return false
	}
	walk(tree.Stmts, r.bind)
	calls := false
	walk(tree.Stmts, func(n parser.Node) {
		if c, ok := n.(*parser.CallExpr); ok {
			from, name := r.callee(c.Func)
			calls = calls || from == module && name == function
		}
	})
	return calls
}

// references is a search under way.
type references struct {
	set     *parser.SourceFileSet
	files   []File
	api     func(module string) bool
	modules map[string]string // by the variable that stands for one; "": a variable that may be something else
	found   []Reference
}

// bind notes which variables stand for modules: those that are declared in one place only, by name := import("...").
func (r *references) bind(n parser.Node) {
	switch n := n.(type) {
	case *parser.AssignStmt:
		id, ok := n.LHS[0].(*parser.Ident)
		if !ok {
			return
		}
		module := ""
		if e, ok := n.RHS[0].(*parser.ImportExpr); ok && n.Token == token.Define {
			module = e.ModuleName
		}
		r.declare(id, module)
	case *parser.FuncType:
		for _, id := range n.Params.List {
			r.declare(id, "")
		}
	case *parser.ForInStmt:
		r.declare(n.Key, "")
		r.declare(n.Value, "")
	}
}

func (r *references) declare(id *parser.Ident, module string) {
	if id == nil {
		return
	}
	if known, ok := r.modules[id.Name]; ok && known != module {
		module = ""
	}
	r.modules[id.Name] = module
}

// callee is the module that a function belongs to, and the function's own name: "stripe" and "create" for
// stripe.customers.create. It is empty for a function of anything else.
func (r *references) callee(e parser.Expr) (module, function string) {
	for {
		switch x := e.(type) {
		case *parser.SelectorExpr:
			if s, ok := x.Sel.(*parser.StringLit); ok && function == "" {
				function = s.Value
			}
			e = x.Expr
		case *parser.ParenExpr:
			e = x.Expr
		case *parser.ImportExpr:
			return x.ModuleName, function
		case *parser.Ident:
			return r.modules[x.Name], function
		default:
			return "", ""
		}
	}
}

// visit notes the names in a call's options.
func (r *references) visit(n parser.Node) {
	c, ok := n.(*parser.CallExpr)
	if !ok {
		return
	}
	module, function := r.callee(c.Func)
	switch {
	case module == "flow" && function == "dispatch":
		if m := mapAt(c, 0); m != nil && !has(m, "worker") && !has(m, "pool") {
			r.add(module, m, "script", "catch")
		}
	case module == "http":
		if m := mapAt(c, 1); m != nil {
			r.add(module, m, "then", "catch")
		}
	case module != "" && r.api(module):
		if m := mapAt(c, len(c.Args)-1); m != nil && len(c.Args) > 1 {
			r.add(module, m, "then", "catch")
		}
	}
}

func mapAt(c *parser.CallExpr, i int) *parser.MapLit {
	if i < 0 || i >= len(c.Args) {
		return nil
	}
	m, _ := c.Args[i].(*parser.MapLit)
	return m
}

func has(m *parser.MapLit, key string) bool {
	return slices.ContainsFunc(m.Elements, func(e *parser.MapElementLit) bool { return e.Key == key })
}

// add notes the options of a map that name a script. "" names none.
func (r *references) add(module string, m *parser.MapLit, options ...string) {
	for _, e := range m.Elements {
		name, ok := e.Value.(*parser.StringLit)
		if ok && name.Value != "" && slices.Contains(options, e.Key) {
			r.found = append(r.found, Reference{module, e.Key, name.Value, locate(r.set, r.files, name.ValuePos)})
		}
	}
}

// walk visits every node of a syntax tree, each before those below it. By reflection: so no kind of node is left out.
func walk(tree any, visit func(parser.Node)) {
	v := reflect.ValueOf(tree)
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i).Interface(), visit)
		}
	case reflect.Pointer:
		if v.IsNil() || v.Elem().Kind() != reflect.Struct {
			return
		}
		if n, ok := tree.(parser.Node); ok {
			visit(n)
		}
		for i := range v.Elem().NumField() {
			if f := v.Elem().Field(i); f.CanInterface() && (f.Kind() == reflect.Slice || f.Kind() == reflect.Pointer || f.Kind() == reflect.Interface) {
				walk(f.Interface(), visit)
			}
		}
	}
}
