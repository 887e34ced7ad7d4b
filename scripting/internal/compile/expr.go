package compile

import (
	"slices"

	"github.com/d5/tengo/v2/parser"
	"github.com/d5/tengo/v2/token"
)

// call makes a call of an internal function that stands where pos is.
func call(name string, pos parser.Pos, args ...parser.Expr) *parser.CallExpr {
	return &parser.CallExpr{Func: &parser.Ident{Name: name, NamePos: pos}, LParen: pos, RParen: pos, Args: args}
}

// chunked makes a call with any number of arguments: the first takes some, more take the rest in turns, each with the
// outcome so far in front. Chunks are even, so that pairs stay together.
func chunked(first, more string, pos parser.Pos, args []parser.Expr) parser.Expr {
	const chunk = 200
	n := min(chunk, len(args))
	e := call(first, pos, args[:n]...)
	for rest := range slices.Chunk(args[n:], chunk) {
		e = call(more, pos, append([]parser.Expr{e}, rest...)...)
	}
	return e
}

// descend counts one more node, and one more level until the returned function is called.
func (p *pass) descend(n parser.Node) {
	p.depth++
	if p.c.most.depth = max(p.c.most.depth, p.depth); p.depth > maxDepth {
		p.fail(p.at(n), "the source nests deeper than %d levels (a long chain of operators or else-ifs counts): split it",
			maxDepth)
	}
	if p.c.nodes++; p.c.nodes > maxNodes {
		p.fail(p.at(n), "the script and its imports are too large: more than %d parts", maxNodes)
	}
}

// at is the position of a node, without the walk that a deep chain's own Pos takes.
func (p *pass) at(n parser.Node) parser.Pos {
	for range maxDepth + 1 {
		switch e := n.(type) {
		case *parser.BinaryExpr:
			return e.TokenPos
		case *parser.SelectorExpr:
			n = e.Sel
		case *parser.CallExpr:
			return e.LParen
		case *parser.IndexExpr:
			return e.LBrack
		case *parser.SliceExpr:
			return e.LBrack
		case *parser.UnaryExpr:
			return e.TokenPos
		case *parser.CondExpr:
			return e.QuestionPos
		default:
			return n.Pos()
		}
	}
	return parser.NoPos
}

func (p *pass) constant(pos parser.Pos, n int) {
	if p.c.constants += n; p.c.constants > maxConstants {
		p.fail(pos, "the script and its imports have more than %d constants", maxConstants)
	}
}

func (p *pass) exprs(list []parser.Expr) []parser.Expr {
	for i, e := range list {
		list[i] = p.expr(e)
	}
	return list
}

// expr checks an expression, and returns what takes its place.
func (p *pass) expr(e parser.Expr) parser.Expr {
	p.descend(e)
	defer func() { p.depth-- }()
	switch e := e.(type) {
	case *parser.Ident:
		p.use(e)
	case *parser.IntLit, *parser.FloatLit, *parser.CharLit, *parser.StringLit:
		p.constant(e.Pos(), 1)
	case *parser.BoolLit, *parser.UndefinedLit:
	case *parser.ParenExpr:
		e.Expr = p.expr(e.Expr)
	case *parser.UnaryExpr:
		e.Expr = p.expr(e.Expr)
	case *parser.BinaryExpr:
		e.LHS, e.RHS = p.expr(e.LHS), p.expr(e.RHS)
	case *parser.CondExpr:
		e.Cond, e.True, e.False = p.expr(e.Cond), p.expr(e.True), p.expr(e.False)
	case *parser.SelectorExpr:
		e.Expr = p.expr(e.Expr)
		p.constant(e.Sel.Pos(), 1)
	case *parser.IndexExpr:
		e.Expr, e.Index = p.expr(e.Expr), p.expr(e.Index)
	case *parser.CallExpr:
		return p.call(e)
	case *parser.FuncLit:
		p.function(e)
	case *parser.ImportExpr:
		return p.imported(e)
	default:
		return p.maker(e)
	}
	return e
}

// maker rewrites the expressions that make a value of ours.
func (p *pass) maker(e parser.Expr) parser.Expr {
	switch e := e.(type) {
	case *parser.ArrayLit:
		return chunked(":array", ":array_more", e.LBrack, p.exprs(e.Elements))
	case *parser.MapLit:
		return chunked(":map", ":map_more", e.LBrace, p.pairs(e))
	case *parser.SliceExpr:
		return p.slice(e)
	case *parser.ErrorExpr:
		return call(":error", e.ErrorPos, p.expr(e.Expr))
	case *parser.ImmutableExpr:
		return call(":immutable", e.ErrorPos, p.expr(e.Expr))
	}
	p.fail(e.Pos(), "this does not belong here")
	return nil
}

func (p *pass) pairs(m *parser.MapLit) []parser.Expr {
	pairs := make([]parser.Expr, 0, 2*len(m.Elements))
	for _, el := range m.Elements {
		p.constant(el.KeyPos, 1)
		key := &parser.StringLit{Value: el.Key, ValuePos: el.KeyPos, Literal: el.Key}
		pairs = append(pairs, key, p.expr(el.Value))
	}
	return pairs
}

func (p *pass) slice(e *parser.SliceExpr) parser.Expr {
	bound := func(b parser.Expr) parser.Expr {
		if b == nil {
			return &parser.UndefinedLit{TokenPos: e.LBrack}
		}
		return p.expr(b)
	}
	x := p.expr(e.Expr)
	return call(":slice", e.LBrack, x, bound(e.Low), bound(e.High))
}

func (p *pass) call(e *parser.CallExpr) parser.Expr {
	e.Func = p.expr(e.Func)
	if p.c.most.args = max(p.c.most.args, len(e.Args)); len(e.Args) > maxArgs {
		p.fail(e.LParen, "a call with more than %d arguments", maxArgs)
	}
	e.Args = p.exprs(e.Args)
	if e.Ellipsis.IsValid() && len(e.Args) > 0 {
		last := len(e.Args) - 1
		e.Args[last] = call(":spread", e.Ellipsis, e.Args[last])
	}
	return e
}

// use checks a name that is read.
func (p *pass) use(id *parser.Ident) {
	declared, builtin := p.resolve(id.Name, id.NamePos)
	switch {
	case declared:
	case builtin:
		if id.Name == "data" {
			p.c.data = true
		}
	case p.c.env.Native(id.Name):
		p.fail(id.NamePos, "%s is not declared: %s := import(%q)", id.Name, id.Name, id.Name)
	default:
		p.fail(id.NamePos, "%s is not declared%s", id.Name, Suggest(id.Name, p.visible()))
	}
}

func (p *pass) function(f *parser.FuncLit) {
	p.constant(f.Pos(), 1)
	p.enter()
	params := f.Type.Params
	for _, id := range params.List {
		p.declare(id.Name, id.NamePos)
	}
	p.push()
	stmts := p.stmts(f.Body.Stmts)
	if params.VarArgs {
		last := params.List[len(params.List)-1]
		stmts = append([]parser.Stmt{assign(last.Name, token.Assign, last.NamePos,
			call(":rest", last.NamePos, &parser.Ident{Name: last.Name, NamePos: last.NamePos}))}, stmts...)
	}
	f.Body.Stmts = stmts
	p.pop()
	p.pop()
}

func assign(name string, tok token.Token, pos parser.Pos, val parser.Expr) *parser.AssignStmt {
	return &parser.AssignStmt{LHS: []parser.Expr{&parser.Ident{Name: name, NamePos: pos}},
		RHS: []parser.Expr{val}, Token: tok, TokenPos: pos}
}
