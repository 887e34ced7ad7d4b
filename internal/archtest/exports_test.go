package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// public are the packages that other programs import.
var public = []string{"dispatcher", "worker", "scripting", "thencetest"}

const (
	maxExported = 25 // top-level names of one public package; some 15 is what a reader keeps in mind
	engine      = "github.com/d5/tengo"
)

func TestExports(t *testing.T) {
	for _, f := range house(t) {
		if slices.Contains(public, f.path) {
			report(t, checkExportedCount(f, maxExported))
			report(t, checkEngineHidden(f))
		}
	}
}

func checkExportedCount(f *folder, limit int) []string {
	names := exportedNames(f)
	if len(names) <= limit {
		return nil
	}
	return []string{fmt.Sprintf("%s: %d exported names, at most %d: unexport what callers don't need, or move a part to a "+
		"package of its own: %s", f.path, len(names), limit, strings.Join(names, ", "))}
}

// exportedNames returns the exported top-level names: types, functions, constants and variables, not methods.
func exportedNames(f *folder) []string {
	var names []string
	add := func(ident *ast.Ident) {
		if ident.IsExported() {
			names = append(names, ident.Name)
		}
	}
	for _, file := range f.sources {
		for _, decl := range file.Decls {
			if function, ok := decl.(*ast.FuncDecl); ok && function.Recv == nil {
				add(function.Name)
			}
		}
		eachSpec(file, func(spec ast.Spec) {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				add(spec.Name)
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					add(name)
				}
			}
		})
	}
	slices.Sort(names)
	return slices.Compact(names) // a name may stand in several files with build tags
}

func eachSpec(file *ast.File, visit func(ast.Spec)) {
	for _, decl := range file.Decls {
		if general, ok := decl.(*ast.GenDecl); ok && general.Tok != token.IMPORT {
			for _, spec := range general.Specs {
				visit(spec)
			}
		}
	}
}

// checkEngineHidden finds types of the script engine in what a package shows: signatures of exported functions and
// methods, exported fields, types, variables and constants, and the unexported types of the package that these name.
func checkEngineHidden(f *folder) []string {
	s := &signatures{folder: f.path, types: make(map[string]declared), seen: make(map[string]bool)}
	for _, file := range f.sources {
		aliases := engineNames(file)
		if slices.Contains(aliases, ".") {
			s.findings = append(s.findings, fmt.Sprintf("%s: %s is imported with a dot: give it a name", f.path, engine))
		}
		eachSpec(file, func(spec ast.Spec) {
			if spec, ok := spec.(*ast.TypeSpec); ok {
				s.types[spec.Name.Name] = declared{spec.Type, aliases}
			}
		})
	}
	for _, file := range f.sources {
		s.checkFile(file)
	}
	return s.findings
}

// engineNames returns the names under which a file imports the engine's packages.
func engineNames(file *ast.File) []string {
	var names []string
	for _, spec := range file.Imports {
		importPath := strings.Trim(spec.Path.Value, "\"`")
		switch {
		case importPath != engine && !strings.HasPrefix(importPath, engine+"/"):
		case spec.Name != nil:
			names = append(names, spec.Name.Name)
		default:
			names = append(names, packageName(importPath))
		}
	}
	return names
}

// packageName is the last element of an import path that is not a version.
func packageName(importPath string) string {
	base := path.Base(importPath)
	if version, ok := strings.CutPrefix(base, "v"); ok {
		if _, err := strconv.Atoi(version); err == nil {
			return path.Base(path.Dir(importPath))
		}
	}
	return base
}

// declared is a type's expression, with the engine's names in its file.
type declared struct {
	expr    ast.Expr
	aliases []string
}

// signatures walks what one package shows.
type signatures struct {
	folder   string
	types    map[string]declared
	seen     map[string]bool // unexported types that were walked
	findings []string
}

func (s *signatures) checkFile(file *ast.File) {
	aliases := engineNames(file)
	for _, decl := range file.Decls {
		if function, ok := decl.(*ast.FuncDecl); ok && function.Name.IsExported() && exportedReceiver(function) {
			s.walk(function.Name.Name, function.Type, aliases)
		}
	}
	eachSpec(file, func(spec ast.Spec) {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() {
				if spec.TypeParams != nil {
					s.walk(spec.Name.Name, spec.TypeParams, aliases)
				}
				s.walk(spec.Name.Name, spec.Type, aliases)
			}
		case *ast.ValueSpec:
			s.checkValues(spec, aliases)
		}
	})
}

// checkValues walks the type of exported variables and constants; without one, what they are made of.
func (s *signatures) checkValues(spec *ast.ValueSpec, aliases []string) {
	exported := slices.IndexFunc(spec.Names, func(name *ast.Ident) bool { return name.IsExported() })
	if exported < 0 {
		return
	}
	name := spec.Names[exported].Name
	if spec.Type != nil {
		s.walk(name, spec.Type, aliases)
		return
	}
	for _, value := range spec.Values {
		s.walk(name, value, aliases)
	}
}

func exportedReceiver(function *ast.FuncDecl) bool {
	if function.Recv == nil {
		return true
	}
	receiver := function.Recv.List[0].Type
	for {
		switch r := receiver.(type) {
		case *ast.StarExpr:
			receiver = r.X
		case *ast.IndexExpr:
			receiver = r.X
		case *ast.IndexListExpr:
			receiver = r.X
		case *ast.Ident:
			return r.IsExported()
		default:
			return true
		}
	}
}

// walk looks for the engine's names in a type as others see it.
func (s *signatures) walk(owner string, node ast.Node, aliases []string) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.StructType:
			s.walkFields(owner, n, aliases)
			return false
		case *ast.FuncLit, *ast.BlockStmt:
			return false
		case *ast.SelectorExpr:
			s.checkSelector(owner, n, aliases)
			return false
		case *ast.Ident:
			s.walkNamed(owner, n.Name)
		}
		return true
	})
}

// walkFields walks a struct's exported fields; an embedded type counts as exported.
func (s *signatures) walkFields(owner string, structure *ast.StructType, aliases []string) {
	for _, field := range structure.Fields.List {
		shown := len(field.Names) == 0
		name := owner
		for _, ident := range field.Names {
			if ident.IsExported() {
				shown, name = true, owner+"."+ident.Name
			}
		}
		if shown {
			s.walk(name, field.Type, aliases)
		}
	}
}

// walkNamed follows the name of an unexported type of the package, once.
func (s *signatures) walkNamed(owner, name string) {
	t, ok := s.types[name]
	if !ok || ast.IsExported(name) || s.seen[name] {
		return
	}
	s.seen[name] = true
	s.walk(owner+" (by "+name+")", t.expr, t.aliases)
}

func (s *signatures) checkSelector(owner string, selector *ast.SelectorExpr, aliases []string) {
	ident, ok := selector.X.(*ast.Ident)
	if !ok {
		s.walk(owner, selector.X, aliases)
		return
	}
	if slices.Contains(aliases, ident.Name) {
		s.findings = append(s.findings, fmt.Sprintf("%s: %s shows %s.%s: wrap it in a type of our own, so that the engine "+
			"can change", s.folder, owner, ident.Name, selector.Sel.Name))
	}
}

func TestCheckEngineHidden(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"parameter", `func Run(o tengo.Object) {}`, "worker: Run shows tengo.Object"},
		{"result in a list", `func Run() ([]*tengo.Map, error) { return nil, nil }`, "Run shows tengo.Map"},
		{"method", `type T struct{}; func (t *T) Run(o stdlib.X) {}`, "Run shows stdlib.X"},
		{"field", `type T struct { A int; Value map[string]tengo.Object }`, "T.Value shows tengo.Object"},
		{"embedded", `type T struct { tengo.ObjectImpl }`, "T shows tengo.ObjectImpl"},
		{"interface", `type T interface { Get() tengo.Object }`, "T shows tengo.Object"},
		{"alias", `type T = tengo.Object`, "T shows tengo.Object"},
		{"by an unexported type", `type T = value; type value tengo.Object`, "T (by value) shows tengo.Object"},
		{"variable", `var None tengo.Object`, "None shows tengo.Object"},
		{"made of", `var None = tengo.UndefinedValue`, "None shows tengo.UndefinedValue"},
		{"type parameter", `type T[V tengo.Object] struct{}`, "T shows tengo.Object"},
		{"unexported", `func run(o tengo.Object) {}; type t struct { V tengo.Object }; var none tengo.Object`, ""},
		{"unexported receiver", `type t struct{}; func (t) Call(args ...tengo.Object) {}`, ""},
		{"unexported field", `type T struct { value tengo.Object; W int }`, ""},
		{"body", `func Run() { var o tengo.Object; _ = o }`, ""},
		{"another package of that name", `func Run(o other.Object) {}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := "package worker; import (\"github.com/d5/tengo/v2\"; \"github.com/d5/tengo/v2/stdlib\"); " + test.text
			root := fstest.MapFS{"worker/a.go": {Data: []byte(text)}}
			expect(t, checkEngineHidden(load(t, root)[0]), test.want)
		})
	}
	dot := fstest.MapFS{"worker/a.go": {Data: []byte(`package worker; import . "github.com/d5/tengo/v2"`)}}
	expect(t, checkEngineHidden(load(t, dot)[0]), "imported with a dot")
}

func TestCheckExportedCount(t *testing.T) {
	text := `package worker; type A struct{ X, Y int }; func (A) M() {}; func B() {}; func c() {}; const (D = 1; e = 2); var F, G int`
	f := load(t, fstest.MapFS{"worker/a.go": {Data: []byte(text)}})[0]
	expect(t, checkExportedCount(f, 5), "")
	expect(t, checkExportedCount(f, 4), "5 exported names, at most 4")
}
