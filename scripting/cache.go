package scripting

import (
	"container/list"
	"sync"
)

const (
	cachedPrograms = 512
	cachedSource   = 8 << 20 // bytes of all sources together
)

// cache keeps the programs of sources that came with jobs, errors of compiling included; the one that was used least
// recently goes first. The zero cache is ready to use.
type cache struct {
	mu      sync.Mutex
	entries map[cacheKey]*list.Element
	recent  list.List // of *cached, newest in front
	bytes   int
}

type cacheKey struct{ name, source string }

type cached struct {
	key  cacheKey
	once sync.Once
	prog *program
	err  error
}

// get returns the program of a source, compiled by the first who asks while others wait. Errors show the name, so the
// same source under two names is two programs.
func (c *cache) get(name, source string, compile func(name, source string) (*program, error)) (*program, error) {
	e := c.entry(cacheKey{name, source})
	e.once.Do(func() { e.prog, e.err = compile(name, source) })
	return e.prog, e.err
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
	c.bytes += len(key.source)
	for len(c.entries) > cachedPrograms || c.bytes > cachedSource && len(c.entries) > 1 {
		oldest := c.recent.Remove(c.recent.Back()).(*cached)
		delete(c.entries, oldest.key)
		c.bytes -= len(oldest.key.source)
	}
	return e
}
