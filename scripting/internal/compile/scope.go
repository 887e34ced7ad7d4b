package compile

import "github.com/d5/tengo/v2/parser"

// scope is a block in which names are declared. It mirrors Tengo's symbol table, which decides what a name means.
type scope struct {
	parent *scope
	fn     *function
	names  map[string]bool
	base   int // locals of the enclosing blocks
}

// function is a function literal, an imported script, or the entry script.
type function struct {
	parent *function
	entry  bool // its names are globals
	locals int  // the most that live at one time
	free   map[string]bool
	loops  int // loops around the statement in hand
}

func (p *pass) push() {
	s := &scope{fn: p.scope.fn, parent: p.scope, base: p.scope.base + len(p.scope.names)}
	p.scope = s
}

func (p *pass) pop() { p.scope = p.scope.parent }

// enter starts a function.
func (p *pass) enter() {
	p.scope = &scope{parent: p.scope, fn: &function{parent: p.scope.fn}}
}

// declare makes a name known in the block in hand.
func (p *pass) declare(name string, pos parser.Pos) {
	s := p.scope
	if s.names == nil {
		s.names = map[string]bool{}
	}
	if !s.names[name] {
		s.names[name] = true
	}
	if s.fn.entry {
		if p.c.globals++; p.c.globals > maxGlobals {
			p.fail(pos, "more than %d global variables", maxGlobals)
		}
		return
	}
	s.fn.locals = max(s.fn.locals, s.base+len(s.names))
	if p.c.most.locals = max(p.c.most.locals, s.fn.locals); s.fn.locals > maxLocals {
		p.fail(pos, "more than %d variables in one function (an imported script counts as one)", maxLocals)
	}
}

// resolve tells whether a name is declared, or else built in.
func (p *pass) resolve(name string, pos parser.Pos) (declared, builtin bool) {
	for s := p.scope; s != nil; s = s.parent {
		if !s.names[name] {
			continue
		}
		if !s.fn.entry {
			p.capture(name, s.fn, pos)
		}
		return true, false
	}
	if name == "data" && p.entry {
		return false, true
	}
	return false, p.c.builtins[name]
}

// capture notes that every function between here and owner holds the variable.
func (p *pass) capture(name string, owner *function, pos parser.Pos) {
	for f := p.scope.fn; f != nil && f != owner; f = f.parent {
		if f.free == nil {
			f.free = map[string]bool{}
		}
		f.free[name] = true
		if p.c.most.free = max(p.c.most.free, len(f.free)); len(f.free) > maxLocals {
			p.fail(pos, "a function uses more than %d variables of the functions around it", maxLocals)
		}
	}
}

// visible lists what a misspelt name could have meant.
func (p *pass) visible() []string {
	var names []string
	for s := p.scope; s != nil; s = s.parent {
		for n := range s.names {
			names = append(names, n)
		}
	}
	for n := range p.c.builtins {
		names = append(names, n)
	}
	return append(names, "data", "undefined", "true", "false")
}
