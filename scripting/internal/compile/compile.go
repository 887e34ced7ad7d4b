package compile

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/d5/tengo/v2"
	"github.com/d5/tengo/v2/parser"
	"github.com/d5/tengo/v2/token"
)

// Env is what a source may name.
type Env struct {
	Builtins []string                         // in the order of their globals, internal ones included
	Native   func(name string) bool           // a module written in Go
	Source   func(name string) (string, bool) // a module or library script written in Tengo
	Imports  func() []string                  // all names that can be imported, for error messages
	Modules  func() []string                  // those of them that are modules, and no scripts of the library
}

// Program is a compiled script. It is immutable: any number of VMs may run it side by side, each with globals of its
// own: the built-ins first, in the order of Env.Builtins, then Natives, then data if Data is set, then Vars others.
type Program struct {
	Natives []string
	Data    bool
	Vars    int

	bytecode *tengo.Bytecode
	files    []File
	bounds   []Bound
}

// File is one of a program's sources.
type File struct{ Name, Source string }

// Files are the sources that the program is made of: the script itself, and all that it imports, each once, in the order
// in which they were first met.
func (p *Program) Files() []File { return p.files }

// NewVM makes a VM for the program.
func (p *Program) NewVM(globals []tengo.Object, maxAllocs int64) *tengo.VM {
	bc := *p.bytecode
	// A file set keeps the file that it has looked up last, so no two VMs may share one.
	bc.FileSet = &parser.SourceFileSet{Base: p.bytecode.FileSet.Base, Files: p.bytecode.FileSet.Files}
	return tengo.NewVM(&bc, globals, maxAllocs)
}

type compiler struct {
	env       Env
	set       *parser.SourceFileSet
	builtins  map[string]bool
	files     []File
	units     []*unit // imported scripts, each after those that it imports
	done      map[string]bool
	chain     []string // scripts that are being loaded
	natives   []string
	data      bool
	globals   int
	nodes     int
	constants int
	most      most
}

// unit is an imported script.
type unit struct {
	name string
	pos  parser.Pos // of the import that brought it in
	body *parser.FuncLit
}

// pass checks and rewrites one file.
type pass struct {
	c     *compiler
	file  *parser.SourceFile
	entry bool
	top   *function
	scope *scope
	depth int
}

// Compile compiles a script and what it imports.
func Compile(name, src string, env Env) (prog *Program, failure *Error) {
	c := &compiler{env: env, set: parser.NewFileSet(), builtins: map[string]bool{}, done: map[string]bool{}}
	for _, b := range env.Builtins {
		c.builtins[b] = true
	}
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if failure, ok = r.(*Error); !ok {
				failure = &Error{Script: name, Msg: fmt.Sprintf("the compiler failed: %v", r)}
			}
		}
	}()
	file, stmts := c.load(name, src, parser.NoPos)
	return c.finish(file, stmts), nil
}

// load parses, checks and rewrites a source.
func (c *compiler) load(name, src string, from parser.Pos) (*parser.SourceFile, []parser.Stmt) {
	c.enter(name, src)
	c.files = append(c.files, File{name, src})
	file := c.set.AddFile(strconv.Itoa(len(c.files)-1), -1, len(src))
	most, offset, err := prescan(src)
	if err != nil {
		for i, b := range src[:offset] {
			if b == '\n' {
				file.AddLine(i + 1)
			}
		}
		c.fail(parser.Pos(file.Base+offset), err.Error())
	}
	c.most.add(most)
	tree, err := parser.NewParser(file, []byte(src), nil).ParseFile()
	if err != nil {
		c.syntaxError(err)
	}
	p := &pass{c: c, file: file, entry: !from.IsValid(), top: &function{}}
	p.top.entry = p.entry
	p.scope = &scope{fn: p.top}
	stmts := p.script(tree.Stmts)
	c.chain = c.chain[:len(c.chain)-1]
	return file, stmts
}

// enter notes that a script is being loaded. A source that is not the library's under that name cannot be imported, and
// so takes part in no cycle.
func (c *compiler) enter(name, src string) {
	if known, ok := c.env.Source(name); !ok || known != src {
		name = ""
	}
	c.chain = append(c.chain, name)
}

// script checks the statements of a script, and deals with its export: the last statement of one that is imported,
// and nothing in the entry script.
func (p *pass) script(list []parser.Stmt) []parser.Stmt {
	var out []parser.Stmt
	exported := false
	for _, s := range list {
		export, ok := s.(*parser.ExportStmt)
		if !ok {
			out = append(out, p.stmt(s))
			continue
		}
		if exported {
			p.fail(export.ExportPos, "a script has only one export")
		}
		exported = true
		value := call(":immutable", export.ExportPos, p.expr(export.Result))
		if !p.entry {
			out = append(out, &parser.ReturnStmt{ReturnPos: export.ExportPos, Result: value})
		}
	}
	return out
}

// imported puts a module's global where it is imported.
func (p *pass) imported(e *parser.ImportExpr) parser.Expr {
	c, name := p.c, e.ModuleName
	id := &parser.Ident{Name: ":import " + name, NamePos: e.TokenPos}
	if c.done[name] {
		return id
	}
	if c.env.Native(name) {
		c.done[name] = true
		c.natives = append(c.natives, name)
		return id
	}
	src, ok := c.env.Source(name)
	if !ok {
		p.unknownModule(e)
	}
	for i, loading := range c.chain {
		if loading == name {
			p.fail(e.TokenPos, "import cycle: %s", strings.Join(append(c.chain[i:len(c.chain):len(c.chain)], name),
				" imports "))
		}
	}
	c.most.imports = max(c.most.imports, len(c.chain), len(c.units)+1)
	if len(c.chain) > maxImports || len(c.units) >= maxImports {
		p.fail(e.TokenPos, "more than %d imports", maxImports)
	}
	c.unit(name, src, e.TokenPos)
	return id
}

// unit loads an imported script as a function.
func (c *compiler) unit(name, src string, from parser.Pos) {
	file, stmts := c.load(name, src, from)
	start := parser.Pos(file.Base)
	c.done[name] = true
	c.units = append(c.units, &unit{name: name, pos: from, body: &parser.FuncLit{
		Type: &parser.FuncType{FuncPos: start, Params: &parser.IdentList{LParen: start, RParen: start}},
		Body: &parser.BlockStmt{Stmts: stmts, LBrace: start, RBrace: start},
	}})
}

func (p *pass) unknownModule(e *parser.ImportExpr) {
	names := p.c.env.Imports()
	if best := Nearest(e.ModuleName, names); best != "" {
		p.fail(e.TokenPos, "there is no module %q; did you mean %q?", e.ModuleName, best)
	}
	list := p.c.env.Modules()
	scripts := ""
	if n := len(names) - len(list); n > 0 {
		scripts = fmt.Sprintf(", and %d scripts of the library, none of which has that name", n)
	}
	p.fail(e.TokenPos, "there is no module %q; there are: %s%s", e.ModuleName, strings.Join(list, ", "), scripts)
}

// finish puts the sources together: imported scripts first, then the entry script in a block, so that it may declare
// names that are built in.
func (c *compiler) finish(file *parser.SourceFile, entry []parser.Stmt) *Program {
	var stmts []parser.Stmt
	for _, u := range c.units {
		run := &parser.CallExpr{Func: u.body, LParen: u.pos, RParen: u.pos}
		stmts = append(stmts, assign(":import "+u.name, token.Define, u.pos, run))
	}
	start := parser.Pos(file.Base)
	stmts = append(stmts, &parser.BlockStmt{Stmts: entry, LBrace: start, RBrace: start})

	table := tengo.NewSymbolTable()
	tc := tengo.NewCompiler(file, table, nil, nil, nil)
	fixed := append([]string(nil), c.env.Builtins...)
	for _, n := range c.natives {
		fixed = append(fixed, ":import "+n)
	}
	if c.data {
		fixed = append(fixed, "data")
	}
	for _, n := range fixed {
		table.Define(n)
	}
	if err := tc.Compile(&parser.File{InputFile: file, Stmts: stmts}); err != nil {
		c.compileError(err)
	}
	bc := tc.Bytecode()
	bc.RemoveDuplicates()
	warm(bc)
	return &Program{Natives: c.natives, Data: c.data, Vars: table.MaxSymbols() - len(fixed), bytecode: bc, files: c.files, bounds: c.bounds()}
}

// warm has every string constant make its list of characters now, which it would otherwise make when a script first
// asks, in whichever VM that is.
func warm(bc *tengo.Bytecode) {
	zero := &tengo.Int{}
	for _, o := range bc.Constants {
		if s, ok := o.(*tengo.String); ok {
			_, _ = s.IndexGet(zero)
		}
	}
}

func (p *pass) fail(pos parser.Pos, format string, args ...any) {
	p.c.fail(pos, fmt.Sprintf(format, args...))
}

// fail ends the compilation.
func (c *compiler) fail(pos parser.Pos, msg string) {
	at := locate(c.set, c.files, pos)
	panic(&Error{Script: at.Script, Line: at.Line, Column: at.Column, Code: at.Code, Msg: clip(msg)})
}

func clip(msg string) string {
	const most = 500
	if len(msg) > most {
		return strings.ToValidUTF8(msg[:most], "") + "..."
	}
	return msg
}

func (c *compiler) compileError(err error) {
	var at *tengo.CompilerError
	if errors.As(err, &at) {
		c.fail(at.Node.Pos(), at.Err.Error())
	}
	c.fail(parser.NoPos, err.Error())
}

// syntaxError reports the first of the parser's errors.
func (c *compiler) syntaxError(err error) {
	var list parser.ErrorList
	if !errors.As(err, &list) || len(list) == 0 {
		c.fail(parser.NoPos, err.Error())
	}
	first := list[0]
	n, _ := strconv.Atoi(first.Pos.Filename)
	pos := parser.Pos(c.set.Files[n].Base + first.Pos.Offset)
	c.fail(pos, first.Msg+hint(c.files[n].Source, first.Pos.Offset, first.Msg))
}
