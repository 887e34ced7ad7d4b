package compile

// Bound is one of the bounds of a program, and how much of it the program takes.
type Bound struct {
	Name string
	Used int
	Most int
}

// most is the most that was met of what is bounded for each function, source or call.
type most struct {
	shape
	depth, locals, free, args, imports int
}

// add takes another source in.
func (m *most) add(s shape) {
	m.brackets, m.comments, m.chained = max(m.brackets, s.brackets), max(m.comments, s.comments), max(m.chained, s.chained)
}

// bounds lists what a compilation has come to.
func (c *compiler) bounds() []Bound {
	return []Bound{
		{"levels of brackets", c.most.brackets, maxBrackets},
		{"levels of the syntax tree", c.most.depth, maxDepth},
		{"comments in a row", c.most.comments, maxComments},
		{"else and ? together", c.most.chained, maxChained},
		{"parts, imports included", c.nodes, maxNodes},
		{"constants, imports included", c.constants, maxConstants},
		{"global variables", c.globals, maxGlobals},
		{"variables in one function", c.most.locals, maxLocals},
		{"variables that one function uses of those around it", c.most.free, maxLocals},
		{"arguments of one call", c.most.args, maxArgs},
		{"imports", c.most.imports, maxImports},
	}
}

// Bounds tells how near the program, with all that it imports, is to the bounds of sources.
func (p *Program) Bounds() []Bound { return p.bounds }
