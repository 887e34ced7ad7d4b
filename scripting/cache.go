package scripting

import (
	"container/list"
	"sync"
)

const (
	cachedPrograms = 512
	cachedSource   = 2 << 20 // bytes of all sources together
)

// cache keeps the programs of sources that came with jobs, errors of compiling included; the one that was used least
// recently goes first. The zero cache is ready to use.
type cache struct {
	mu      sync.Mutex
	entries map[cacheKey]*list.Element
	recent  list.List // of *cached, newest in front
	bytes   int
}

// cacheKey tells programs apart. What a source imports depends on the release; and errors show the script's name, so the
// same source under two names is two programs.
type cacheKey struct {
	release string
	script  Script
}

type cached struct {
	key  cacheKey
	once sync.Once
	name string // what InlineName makes of the source
	prog *program
	err  error
}

// get returns the program of a source that may import a library's scripts, and its inline name, compiled by the first
// who asks while others wait.
func (c *cache) get(l *Library, s Script) (*program, string, error) {
	e := c.entry(cacheKey{l.release, s})
	e.once.Do(func() {
		e.name = InlineName(s.Source)
		e.prog, e.err = l.compile(shown(s), s.Source)
	})
	return e.prog, e.name, e.err
}

func (c *cache) entry(key cacheKey) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[key]; ok {
		c.recent.MoveToFront(el)
		return el.Value.(*cached)
	}
	if c.entries == nil {
		c.entries = map[cacheKey]*list.Element{}
	}
	e := &cached{key: key}
	c.entries[key] = c.recent.PushFront(e)
	c.bytes += len(key.script.Source)
	for len(c.entries) > cachedPrograms || c.bytes > cachedSource && len(c.entries) > 1 {
		oldest := c.recent.Remove(c.recent.Back()).(*cached)
		delete(c.entries, oldest.key)
		c.bytes -= len(oldest.key.script.Source)
	}
	return e
}
