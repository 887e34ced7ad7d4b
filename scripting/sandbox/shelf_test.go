package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/thence-dev/thence/scripting"
)

// releaseOf is a library with one script, of so many bytes with its name.
func releaseOf(n, bytes int) *scripting.Library {
	source := fmt.Sprintf("// %d ", n)
	l := &scripting.Library{}
	l.Load(map[string]string{"main": source + strings.Repeat("x", bytes-len("main")-len(source))})
	return l
}

// TestShelf: a library is told once, and again after those that were used later have pushed it out.
func TestShelf(t *testing.T) {
	s := shelf{room: 1000}
	var all []*scripting.Library
	for i := range libraries + 1 {
		all = append(all, releaseOf(i, 20))
	}
	for i, l := range all[:libraries] {
		if slot, fresh, drop := s.slot(l); slot != i || !fresh || drop != nil {
			t.Errorf("library %d: slot %d, fresh: %v, in place of %v", i, slot, fresh, drop)
		}
	}
	for i, l := range all[:libraries] {
		if slot, fresh, _ := s.slot(l); slot != i || fresh {
			t.Errorf("library %d again: slot %d, fresh: %v", i, slot, fresh)
		}
	}
	_, _, _ = s.slot(all[0])
	if slot, fresh, drop := s.slot(all[libraries]); slot != 1 || !fresh || drop != nil {
		t.Errorf("one too many: slot %d, fresh: %v, drop %v; want that of the one used least recently", slot, fresh, drop)
	}
	if _, fresh, _ := s.slot(all[1]); !fresh {
		t.Error("what was pushed out is not told again")
	}
	s.forget(all[0])
	if slot, fresh, _ := s.slot(all[0]); slot != 0 || !fresh {
		t.Errorf("what was forgotten: slot %d, fresh: %v", slot, fresh)
	}
}

// TestShelfHasRoom: the text of all libraries together is bounded, but for one that is too large by itself.
func TestShelfHasRoom(t *testing.T) {
	s := shelf{room: 100}
	for i := range 3 {
		_, _, _ = s.slot(releaseOf(i, 30))
	}
	if slot, fresh, drop := s.slot(releaseOf(3, 50)); slot != 3 || !fresh || !slices.Equal(drop, []int{0, 1}) {
		t.Errorf("slot %d, fresh: %v, in place of %v; want the two that were used least recently to go", slot, fresh, drop)
	}
	large := releaseOf(4, 101)
	if _, fresh, drop := s.slot(large); !fresh || len(drop) != 2 {
		t.Errorf("a library that is larger than the room: fresh: %v, in place of %v", fresh, drop)
	}
	if _, fresh, drop := s.slot(large); fresh || drop != nil {
		t.Error("it is told twice")
	}
	empty := &scripting.Library{}
	if _, fresh, _ := s.slot(empty); !fresh {
		t.Error("the empty library is not told")
	}
	if _, fresh, drop := s.slot(empty); fresh || drop != nil {
		t.Error("the empty library is told twice")
	}
}

// TestTextIsNotTheScripts: what libraries take, scripts get on top of their memory, up to the room of the shelf.
func TestTextIsNotTheScripts(t *testing.T) {
	c := &child{page: newTestPage(t), memory: LeastMemory}
	c.put(0, releaseOf(0, 1000))
	c.watch = newWatch(c)
	const own = LeastMemory / 8 * 7
	room := shelfRoom(LeastMemory)
	for _, step := range []struct {
		slot, bytes, most int
	}{
		{0, 1000, own + 1000}, {1, 500, own + 1500}, {0, 200, own + 700}, {2, room, own + room}, {2, 300, own + 1000},
	} {
		if c.put(step.slot, releaseOf(step.slot, step.bytes)); c.watch.most != uint64(step.most) {
			t.Errorf("with %d bytes in slot %d: %d are allowed, want %d", step.bytes, step.slot, c.watch.most, step.most)
		}
	}
}

// TestLibraryThatCannotBeSent is about one with a script that is longer than a frame: the job fails, and what the child
// knows of other libraries stays right.
func TestLibraryThatCannotBeSent(t *testing.T) {
	large := &scripting.Library{}
	large.Load(map[string]string{"main": "// " + strings.Repeat("x", 5<<20)})
	s := open(t, newLibrary(t, map[string]string{"main": `print("own")`}), Options{Logger: quiet()})
	run := func(l *scripting.Library, source string) (*scripting.Outcome, error) {
		return s.Run(t.Context(), scripting.Input{Script: scripting.Script{Source: source}, Library: l, Limits: patient})
	}
	for range 2 {
		if _, err := run(large, `print(1)`); kindOf(err) != KindCrash || !strings.Contains(err.Error(), "script main: ") {
			t.Errorf("a library that cannot be sent: %v", err)
		}
		if out, err := run(nil, `print(2)`); err != nil || out.Output != "2\n" {
			t.Errorf("the sandbox's own after it: %v, %v", out, err)
		}
	}
	if err := s.Use(large); err == nil {
		t.Error("a library that cannot be sent is used for new children")
	}
	if out, err := run(nil, `print(3)`); err != nil || out.Output != "3\n" {
		t.Errorf("the sandbox's own after it was to be replaced: %v, %v", out, err)
	}
}
