package compile

import (
	"github.com/d5/tengo/v2/parser"
	"github.com/d5/tengo/v2/token"
)

func (p *pass) stmts(list []parser.Stmt) []parser.Stmt {
	for i, s := range list {
		list[i] = p.stmt(s)
	}
	return list
}

// stmt checks a statement, and returns what takes its place.
func (p *pass) stmt(s parser.Stmt) parser.Stmt {
	p.descend(s)
	defer func() { p.depth-- }()
	switch s := s.(type) {
	case *parser.EmptyStmt:
	case *parser.ExprStmt:
		s.Expr = p.expr(s.Expr)
	case *parser.AssignStmt:
		p.assign(s)
	case *parser.IncDecStmt:
		s.Expr = p.target(s.Expr)
		p.constant(s.TokenPos, 1)
	case *parser.IfStmt:
		p.ifStmt(s)
	case *parser.ForStmt:
		p.forStmt(s)
	case *parser.ForInStmt:
		p.forIn(s)
	case *parser.BlockStmt:
		p.block(s)
	case *parser.BranchStmt:
		p.branch(s)
	case *parser.ReturnStmt:
		p.returnStmt(s)
	case *parser.ExportStmt:
		p.fail(s.ExportPos, "export must stand at the top level of a script, not inside a block or function")
	default:
		p.fail(s.Pos(), "this statement does not belong here")
	}
	return s
}

func (p *pass) block(b *parser.BlockStmt) {
	p.push()
	b.Stmts = p.stmts(b.Stmts)
	p.pop()
}

func (p *pass) ifStmt(s *parser.IfStmt) {
	p.push()
	if s.Init != nil {
		s.Init = p.stmt(s.Init)
	}
	s.Cond = p.expr(s.Cond)
	p.block(s.Body)
	if s.Else != nil {
		s.Else = p.stmt(s.Else)
	}
	p.pop()
}

func (p *pass) forStmt(s *parser.ForStmt) {
	p.push()
	if s.Init != nil {
		s.Init = p.stmt(s.Init)
	}
	if s.Cond != nil {
		s.Cond = p.expr(s.Cond)
	}
	p.loop(s.Body)
	if s.Post != nil {
		s.Post = p.stmt(s.Post)
	}
	p.pop()
}

func (p *pass) forIn(s *parser.ForInStmt) {
	if s.Key == nil || s.Value == nil {
		p.fail(s.ForPos, "for-in takes one or two variables: for value in x, or for key, value in x")
	}
	p.push()
	p.declare(":it", s.ForPos)
	s.Iterable = p.expr(s.Iterable)
	for _, id := range []*parser.Ident{s.Key, s.Value} {
		if id.Name != "_" {
			p.declare(id.Name, id.NamePos)
		}
	}
	p.loop(s.Body)
	p.pop()
}

func (p *pass) loop(body *parser.BlockStmt) {
	fn := p.scope.fn
	fn.loops++
	p.block(body)
	fn.loops--
}

func (p *pass) branch(s *parser.BranchStmt) {
	if s.Label != nil {
		p.fail(s.TokenPos, "%s takes no label: there are none in Tengo", s.Token)
	}
	if p.scope.fn.loops == 0 {
		p.fail(s.TokenPos, "%s outside a loop (a loop around the function does not count)", s.Token)
	}
}

func (p *pass) returnStmt(s *parser.ReturnStmt) {
	if p.scope.fn == p.top {
		p.fail(s.ReturnPos, "return outside a function: a script runs to its end; put the rest into an if")
	}
	if s.Result != nil {
		s.Result = p.expr(s.Result)
	}
}

// assign checks an assignment, or a declaration with :=.
func (p *pass) assign(s *parser.AssignStmt) {
	if len(s.LHS) != 1 || len(s.RHS) != 1 {
		p.fail(s.TokenPos, "only one value can be assigned at a time")
	}
	if s.Token != token.Define {
		s.LHS[0] = p.target(s.LHS[0])
		s.RHS[0] = p.expr(s.RHS[0])
		return
	}
	id, ok := s.LHS[0].(*parser.Ident)
	if !ok {
		p.fail(s.TokenPos, ":= declares a variable, so a plain name must stand before it; use = to change a member")
	}
	if p.scope.names[id.Name] {
		p.fail(id.NamePos, "%s is already declared in this block: use = to change it", id.Name)
	}
	p.resolve(id.Name, id.NamePos) // Tengo looks the name up, and captures what it finds
	if _, function := s.RHS[0].(*parser.FuncLit); function {
		p.declare(id.Name, id.NamePos)
		s.RHS[0] = p.expr(s.RHS[0])
		return
	}
	s.RHS[0] = p.expr(s.RHS[0])
	p.declare(id.Name, id.NamePos)
}

// target checks what is assigned to: a variable, or members of one.
func (p *pass) target(e parser.Expr) parser.Expr {
	selectors := 0
	for x := e; ; {
		switch t := x.(type) {
		case *parser.Ident:
			p.variable(t, selectors)
			return p.selectors(e)
		case *parser.SelectorExpr:
			x = t.Expr
		case *parser.IndexExpr:
			x = t.Expr
		default:
			p.fail(p.at(x), "cannot assign to this: only to a variable, or to members of one")
		}
		if selectors++; selectors > maxSelectors {
			p.fail(p.at(x), "more than %d members in one assignment", maxSelectors)
		}
	}
}

// selectors rewrites the index expressions of a target, which itself stays as it is.
func (p *pass) selectors(e parser.Expr) parser.Expr {
	for x := e; ; {
		switch t := x.(type) {
		case *parser.SelectorExpr:
			p.constant(t.Sel.Pos(), 1)
			x = t.Expr
		case *parser.IndexExpr:
			t.Index = p.expr(t.Index)
			x = t.Expr
		default:
			return e
		}
	}
}

// variable checks the variable of an assignment.
func (p *pass) variable(id *parser.Ident, selectors int) {
	declared, builtin := p.resolve(id.Name, id.NamePos)
	switch {
	case declared:
	case builtin && id.Name == "data" && selectors > 0:
		p.c.data = true
	case builtin:
		p.fail(id.NamePos, "%s is built in and cannot be assigned to: declare your own with %s := ...", id.Name, id.Name)
	default:
		p.fail(id.NamePos, "%s is not declared: use := to declare it%s", id.Name, Suggest(id.Name, p.visible()))
	}
}
