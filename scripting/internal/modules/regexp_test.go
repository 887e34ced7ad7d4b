package modules

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/d5/tengo/v2"
)

// TestAllMatchesAreThoseOfGo holds pattern.all to regexp.
func TestAllMatchesAreThoseOfGo(t *testing.T) {
	texts := []string{"", "a", "abc", "aaa", "a,b,,c", "héé wörld", "x\xffy", "aXbXc", "  a  ", strings.Repeat("ab", 50)}
	for _, expr := range []string{"", "a", "a*", "a*?", "(a)|(b)", "[,;]", ",?", "\\w+", "(?:a*b)?", ".", "^a", "\\b", "é*", "(x)?"} {
		for _, s := range texts {
			for _, n := range []int{-1, 0, 1, 2} {
				p, _, err := compiled([]tengo.Object{str(expr)}, 0)
				if err != nil {
					t.Fatal(err)
				}
				got, err := p.all(&Run{}, s, n)
				if err != nil {
					t.Fatal(err)
				}
				want := p.re.FindAllStringSubmatchIndex(s, n)
				if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
					t.Errorf("%q in %q, %d: %v, want %v", expr, s, n, got, want)
				}
				parts, err := splitBy(&Run{}, p, []tengo.Object{str(s), integer(int64(n))})
				if err != nil {
					t.Fatal(err)
				}
				if words := p.re.Split(s, n); expr != "" && parts.String() != stringsOf(words) {
					t.Errorf("split %q by %q, %d: %v, want %v", s, expr, n, parts, words)
				}
			}
		}
	}
}

func stringsOf(list []string) string {
	a, _ := stringArray(list)
	return a.String()
}

// TestSlowPatternsStop is about patterns that look through all of the text for each match.
func TestSlowPatternsStop(t *testing.T) {
	s := strings.Repeat("a", maxSubject)
	p, _, err := compiled([]tengo.Object{str("(?:a*b)?")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(50 * time.Millisecond)
	if _, err := p.all(&Run{Stopped: func() bool { return time.Now().After(end) }}, s, -1); err == nil {
		t.Error("the search did not stop")
	}
	p, _, err = compiled([]tengo.Object{str("(?:a*b)?$")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.all(&Run{}, s, -1); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
}
