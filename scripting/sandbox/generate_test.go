package sandbox

import (
	"fmt"
	"strings"
	"testing"

	"github.com/thence-dev/thence/scripting"
)

// generator writes a program by the choices that its seed makes: values that contain each other and themselves, calls of
// everything there is with arguments of every kind, loops and functions.
type generator struct {
	seed  []byte
	out   strings.Builder
	depth int
	parts int
}

func generate(seed []byte) string {
	g := &generator{seed: seed}
	for i, m := range generatorModules {
		fmt.Fprintf(&g.out, "m%d := import(%q)\n", i, m.name)
	}
	g.out.WriteString("a := [1, 2]; b := {x: 1}; c := \"text\"; d := func(...x) { return x }; e := bytes(\"b\"); f := 7\n")
	for len(g.seed) > 0 && g.parts < 500 {
		g.statement()
	}
	return g.out.String()
}

// pick takes a choice among n off the seed.
func (g *generator) pick(n int) int {
	g.parts++
	if len(g.seed) == 0 {
		return 0
	}
	c := int(g.seed[0])
	g.seed = g.seed[1:]
	return c % n
}

func (g *generator) write(format string, args ...any) { fmt.Fprintf(&g.out, format, args...) }

func (g *generator) name() string { return string(rune('a' + g.pick(6))) }

func (g *generator) block(head string) {
	g.write("%s {\n", head)
	g.depth++
	for range 1 + g.pick(3) {
		g.statement()
	}
	g.depth--
	g.write("}\n")
}

func (g *generator) statement() {
	if g.depth > 4 {
		g.write("f++\n")
		return
	}
	switch g.pick(12) {
	case 0, 1, 2:
		g.write("%s = %s\n", g.name(), g.expression())
	case 3:
		g.write("b[%s] = %s\n", g.expression(), g.expression())
	case 4:
		g.write("a[%s] = %s\n", g.expression(), g.expression())
	case 5:
		g.write("%s %s %s\n", g.name(), []string{"+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^=", "&^="}[g.pick(11)], g.expression())
	case 6:
		g.block(fmt.Sprintf("for i%d := 0; i%d < %d; i%d++", g.depth, g.depth, []int{3, 100, 10000}[g.pick(3)], g.depth))
	case 7:
		g.block(fmt.Sprintf("for k%d, v%d in %s", g.depth, g.depth, g.expression()))
	case 8:
		g.block("if " + g.expression())
	case 9:
		g.write("d = func(%s) {\n", []string{"", "a", "a, b", "...x"}[g.pick(4)])
		g.depth++
		g.statement()
		g.depth--
		g.write("return %s\n}\n", g.expression())
	default:
		g.write("%s\n", g.expression())
	}
}

func (g *generator) expression() string {
	if g.depth++; g.depth > 8 {
		g.depth--
		return g.name()
	}
	defer func() { g.depth-- }()
	switch g.pick(14) {
	case 0, 1:
		return g.name()
	case 2:
		return generatorValues[g.pick(len(generatorValues))]
	case 3:
		return "[" + g.expression() + ", " + g.expression() + "]"
	case 4:
		return "{x: " + g.expression() + ", " + g.name() + ": " + g.expression() + "}"
	case 5:
		return "(" + g.expression() + " " + []string{"+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "&", "|", "^", "<<", ">>", "&^"}[g.pick(17)] +
			" " + g.expression() + ")"
	case 6:
		return g.name() + "[" + g.expression() + "]"
	case 7:
		return g.name() + "[" + g.expression() + ":" + g.expression() + "]"
	case 8:
		return []string{"error", "immutable", "!", "-", "^", "+"}[g.pick(6)] + "(" + g.expression() + ")"
	case 9:
		return "(" + g.expression() + " ? " + g.expression() + " : " + g.expression() + ")"
	case 10:
		return g.name() + "(" + g.expression() + []string{"", "..."}[g.pick(2)] + ")"
	case 11:
		return generatorBuiltins[g.pick(len(generatorBuiltins))] + "(" + g.arguments() + ")"
	}
	i := g.pick(len(generatorModules))
	m := generatorModules[i]
	return fmt.Sprintf("m%d.%s(%s)", i, m.functions[g.pick(len(m.functions))], g.arguments())
}

func (g *generator) arguments() string {
	var list []string
	for range g.pick(5) {
		list = append(list, g.expression())
	}
	return strings.Join(list, ", ")
}

var generatorValues = strings.Split(`0|1|-1|1 << 62|9223372036854775807|1.5|1e308|true|undefined|'x'|""|"%[1]*d %v %s"|"{\"a\":[1]}"|"(a*)*b"|`+
	`"2006-01-02"|data|secret("k")|func() { return a }|range(0, 1000)|{then: ""}|"https://x.y"|1000000|bytes(1000)|"\xff"`, "|")

var generatorBuiltins = strings.Fields("len copy append delete splice string int bool float char bytes time type_name format range print " +
	"is_int is_string is_array is_map is_error is_undefined is_callable is_iterable secret")

var generatorModules = []struct {
	name      string
	functions []string
}{
	{"text", strings.Fields("re_match re_find re_replace re_split re_compile compare contains count index join split split_n repeat replace substr " +
		"pad_left pad_right title trim fields quote unquote parse_int parse_float format_int format_float atoi")},
	{"json", strings.Fields("encode decode indent html_escape")},
	{"math", strings.Fields("abs pow jn ldexp mod gamma inf nan ilogb")},
	{"times", strings.Fields("now date add add_date parse time_format unix sub parse_duration")},
	{"rand", strings.Fields("int intn perm bytes seed rand")},
	{"fmt", strings.Fields("print println printf sprintf")},
	{"base64", strings.Fields("encode decode url_encode raw_decode")},
	{"hex", strings.Fields("encode decode")},
	{"context", strings.Fields("get set delete all")},
	{"http", strings.Fields("get post put patch delete")},
	{"flow", strings.Fields("dispatch")},
	{"job", strings.Fields("result")},
}

// TestGenerator makes sure that what is generated is worth running: it compiles, as often as chance allows.
func TestGenerator(t *testing.T) {
	engine := scripting.NewEngine(nil)
	compiled := 0
	for i := range 1000 {
		seed := make([]byte, 100)
		for j := range seed {
			seed[j] = byte((i*7919 + j*104729 + i*j*31) >> 3)
		}
		if engine.Check(scripting.Script{Source: generate(seed)}) == nil {
			compiled++
		}
	}
	if compiled < 900 {
		t.Errorf("%d of 1000 programs compile", compiled)
	}
}
