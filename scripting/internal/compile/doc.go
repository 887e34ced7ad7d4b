// Package compile turns the source of a script, and of the library scripts that it imports, into one Tengo program.
//
// Tengo's own compiler panics on some sources, miscompiles others, and makes maps and arrays that are not ours. So a
// source goes through four steps: prescan looks at its bytes, Tengo's parser makes a syntax tree, one pass over the
// tree checks what the compiler leaves unchecked and rewrites what makes a value, and Tengo's compiler does the rest.
//
// The pass puts calls of internal functions (their names start with a colon, so no script can name them) where a map,
// an array, a slice, an error or an immutable value is made:
//
//	{a: 1}             :map("a", 1)
//	[1, 2]             :array(1, 2)
//	x[1:2]             :slice(x, 1, 2)
//	error(x)           :error(x)
//	immutable(x)       :immutable(x)
//	f(x...)            f(:spread(x)...)
//	func(...x) { }     func(...x) { x = :rest(x); }
//	import("json")     the global :import json
//	export x           return :immutable(x)
//
// A library script that is imported becomes a function, called once before the script that imports it. All sources
// share one set of files, and every node keeps its position, so errors show the script's own lines.
package compile

import "fmt"

// Limits of a source. Tengo's bytecode has one byte for most counts and two for constants; the others keep parsing
// and compiling in bounds.
const (
	MaxSource    = 256 << 10 // bytes of one source, whatever the caller allows
	maxBrackets  = 100       // nesting of brackets in the source
	maxUnary     = 100       // unary operators in a row
	maxComments  = 5000      // in a row
	maxChained   = 3000      // else and ? in the source
	maxDepth     = 500       // nesting of the syntax tree
	maxNodes     = 100_000   // of the syntax trees of a program
	maxConstants = 60_000
	maxGlobals   = 1000
	maxLocals    = 250 // of one function, and so of an imported script
	maxArgs      = 250
	maxSelectors = 250
	maxImports   = 100
)

// Error says what is wrong with a source, and where.
type Error struct {
	Script string
	Line   int // from 1; 0 when the error is of the whole source
	Column int // in characters, from 1
	Code   string
	Msg    string
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d:%d: %s", e.Script, e.Line, e.Column, e.Msg) }
