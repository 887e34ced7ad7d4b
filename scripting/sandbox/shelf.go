package sandbox

import (
	"fmt"

	"github.com/thence-dev/thence/scripting"
	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

const (
	libraries = 8  // that a child keeps at a time
	shelfPart = 16 // the part of a script's memory that their text may take, and that scripts get on top of it
)

// shelfRoom is how many bytes of text a child may keep of libraries.
func shelfRoom(memory int64) int { return int(memory / shelfPart) }

// shelf are the libraries that a child knows, each in its slot. The first is the one that it was started with. When there
// are too many, or they are too large, those make room that were used least recently.
type shelf struct {
	room  int // bytes of text; one library that is larger is there alone
	clock uint64
	slots [libraries]struct {
		release string
		bytes   int
		used    uint64 // 0: the slot is empty
	}
}

// slot returns a library's slot. When it is fresh the child has to be told, and to empty the slots in drop before.
func (s *shelf) slot(l *scripting.Library) (slot int, fresh bool, drop []int) {
	s.clock++
	oldest, bytes := 0, 0
	for i := range s.slots {
		at := &s.slots[i]
		if at.used > 0 && at.release == l.Release() {
			at.used = s.clock
			return i, false, nil
		}
		bytes += at.bytes
		if at.used < s.slots[oldest].used {
			oldest = i
		}
	}
	bytes -= s.slots[oldest].bytes
	s.empty(oldest)
	own := l.Size()
	for bytes > 0 && bytes+own > s.room {
		i := s.oldest()
		bytes -= s.slots[i].bytes
		s.empty(i)
		drop = append(drop, i)
	}
	s.slots[oldest].release, s.slots[oldest].bytes, s.slots[oldest].used = l.Release(), own, s.clock
	return oldest, true, drop
}

// oldest is the slot that was used least recently among those that hold text.
func (s *shelf) oldest() int {
	found := -1
	for i := range s.slots {
		if s.slots[i].bytes > 0 && (found < 0 || s.slots[i].used < s.slots[found].used) {
			found = i
		}
	}
	return found
}

func (s *shelf) empty(slot int) {
	s.slots[slot].release, s.slots[slot].bytes, s.slots[slot].used = "", 0, 0
}

// forget makes the child be told a library again.
func (s *shelf) forget(l *scripting.Library) {
	for i := range s.slots {
		if s.slots[i].used > 0 && s.slots[i].release == l.Release() {
			s.empty(i)
		}
	}
}

// appendLibrary appends what tells a child of a library: with slot -1 the one that it is started with.
func appendLibrary(buf []byte, slot int, l *scripting.Library) ([]byte, error) {
	var err error
	if slot >= 0 {
		if buf, err = wire.AppendLibrary(buf, slot); err != nil {
			return buf, err
		}
	}
	for _, name := range l.Names() {
		source, _ := l.Source(name)
		if buf, err = wire.AppendScript(buf, name, source); err != nil {
			return buf, fmt.Errorf("script %s: %w", name, err)
		}
	}
	return wire.AppendReady(buf)
}

// library appends what a child must read so that a task's library is in the slot that is returned.
func (p *process) library(buf []byte, l *scripting.Library) (_ []byte, slot int, told bool, err error) {
	slot, told, drop := p.shelf.slot(l)
	for _, i := range drop {
		if buf, err = appendLibrary(buf, i, &scripting.Library{}); err != nil {
			return buf, slot, told, err
		}
	}
	if told {
		buf, err = appendLibrary(buf, slot, l)
	}
	return buf, slot, told, err
}

// put makes a library one of those that the child knows. What their text takes, scripts get on top of their memory: an
// old release that is in use still takes nothing from them.
func (c *child) put(slot int, l *scripting.Library) {
	c.shelf[slot] = l
	text := 0
	for _, l := range c.shelf {
		if l != nil {
			text += l.Size()
		}
	}
	c.text = uint64(min(text, shelfRoom(c.memory)))
	if c.watch != nil {
		c.watch.allow(c.text)
	}
}
