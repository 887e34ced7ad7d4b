// Package value holds the kinds of value that scripts work with where Tengo's own will not do.
//
// Tengo's maps iterate and print in random order, its arrays share memory where a script expects a copy, and a value
// that contains itself ends the process when it is compared or printed. The kinds here replace them: [Map] keeps its
// keys in order, [Array] and [Bytes] never share what they can grow into, and every walk over a value (printing,
// comparing, copying, encoding) has a budget. [Secret] is a name for something that no script may see.
//
// A walk that returns an error says what was wrong and where. Those that Tengo calls through its Object interface
// (String, Equals, Copy) cannot return one: they panic with a [Trouble], which whoever runs the script recovers.
package value

import "github.com/d5/tengo/v2"

const (
	// MaxDepth is how deep values may nest.
	MaxDepth = 128
	// MaxNodes is how many values one walk visits; a value that holds the same part many times counts it each time.
	MaxNodes = 2_000_000
	// MaxItems is how long an array may be.
	MaxItems = 1 << 20
	// MaxString is how many bytes a string, or bytes, may have.
	MaxString = 4 << 20
)

// Tengo keeps these two for the whole process: its own string operations ask nothing else.
func init() {
	tengo.MaxStringLen = MaxString
	tengo.MaxBytesLen = MaxString
}

// Trouble is what a walk panics with when a value is too deep, too large, or must not be shown.
type Trouble string

func (t Trouble) Error() string { return string(t) }

const (
	tooDeep  Trouble = "the value nests deeper than 128 levels (does it contain itself?)"
	tooLarge Trouble = "the value has more than 2,000,000 parts (does it contain the same part many times?)"
)

// budget bounds one walk.
type budget struct{ nodes int }

func (b *budget) spend(depth int) error {
	if depth > MaxDepth {
		return tooDeep
	}
	if b.nodes++; b.nodes > MaxNodes {
		return tooLarge
	}
	return nil
}

func (b *budget) mustSpend(depth int) {
	if err := b.spend(depth); err != nil {
		panic(err)
	}
}
