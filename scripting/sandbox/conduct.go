package sandbox

import (
	"container/heap"
	"container/list"
	"time"
)

const (
	remembered = 4096                   // scripts of each kind that wait for nothing, and of which a sandbox knows how they behaved
	briefRun   = 150 * time.Microsecond // at most, of a script whose answer is waited for without sleep
	shortRun   = 20 * time.Millisecond
	shortRuns  = 3  // in a row, until a script is known to be quick
	shortMost  = 64 // that count
)

// conduct is how long a script has run in this sandbox.
type conduct struct {
	key   string        // empty when nothing is to be remembered
	short int           // runs that were short; a long one takes half of them away
	last  time.Duration // of its last run
	users int           // tasks that have not ended
	owner *owner
	place *list.Element // in owner.idle, while it has no users
}

// ran counts a run that came to an end.
func (c *conduct) ran(took time.Duration) {
	c.last = took
	if took > shortRun {
		c.short /= 2
	} else if c.short < shortMost {
		c.short++
	}
}

// quick tells whether the script is known to take little time, and to let its process live.
func (c *conduct) quick() bool { return c.short >= shortRuns }

// brief tells whether the script's end is worth waiting for without sleep.
func (c *conduct) brief() bool { return c.quick() && c.last < briefRun }

// records keeps the conduct of scripts: of those with tasks, and of up to remembered others. These belong to the context
// that ran them first. When there are too many, the context with the most of them loses the one that it has not used for
// longest: nobody can push out the records of others by making many. Scripts of libraries have records of their own, so
// that those that came with jobs can't push them out. The zero records is empty.
type records struct {
	byKey  map[string]*conduct
	owners map[string]*owner
	most   mostIdle
	idle   int // of all owners
}

// owner is a context with scripts that are remembered.
type owner struct {
	name  string
	idle  list.List // of *conduct, the latest in front
	index int       // in records.most
}

// ofLibrary is the owner of the scripts of libraries, of all releases.
const ofLibrary = ""

// get returns a key's conduct for a task, and begins one when there is none. It must be given back by release.
func (r *records) get(key, context string) *conduct {
	c, ok := r.byKey[key]
	switch {
	case !ok:
		c = &conduct{key: key, owner: r.owner(context)}
		if r.byKey == nil {
			r.byKey = map[string]*conduct{}
		}
		r.byKey[key] = c
	case c.place != nil:
		c.owner.idle.Remove(c.place)
		c.place = nil
		r.changed(c.owner, -1)
	}
	c.users++
	return c
}

// release says that a task has ended.
func (r *records) release(c *conduct) {
	if c.users--; c.users > 0 || c.owner == nil {
		return
	}
	if c.short == 0 { // as of one that was never seen
		delete(r.byKey, c.key)
		return
	}
	c.owner = r.owner(c.owner.name) // it may have been dropped meanwhile
	c.place = c.owner.idle.PushFront(c)
	r.changed(c.owner, 1)
	if r.idle > remembered {
		o := r.most[0]
		delete(r.byKey, o.idle.Remove(o.idle.Back()).(*conduct).key)
		r.changed(o, -1)
	}
}

func (r *records) owner(name string) *owner {
	o, ok := r.owners[name]
	if !ok {
		o = &owner{name: name, index: -1}
	}
	return o
}

// changed keeps the owners in order, of whom those with nothing idle are dropped.
func (r *records) changed(o *owner, n int) {
	r.idle += n
	switch {
	case o.idle.Len() == 0:
		heap.Remove(&r.most, o.index)
		delete(r.owners, o.name)
	case o.index < 0:
		if r.owners == nil {
			r.owners = map[string]*owner{}
		}
		r.owners[o.name] = o
		heap.Push(&r.most, o)
	default:
		heap.Fix(&r.most, o.index)
	}
}

// mostIdle is a heap with the owner of the most on top.
type mostIdle []*owner

func (m mostIdle) Len() int           { return len(m) }
func (m mostIdle) Less(i, j int) bool { return m[i].idle.Len() > m[j].idle.Len() }
func (m mostIdle) Swap(i, j int) {
	m[i], m[j] = m[j], m[i]
	m[i].index, m[j].index = i, j
}

func (m *mostIdle) Push(x any) {
	o := x.(*owner)
	o.index = len(*m)
	*m = append(*m, o)
}

func (m *mostIdle) Pop() any {
	last := len(*m) - 1
	o := (*m)[last]
	(*m)[last] = nil
	*m, o.index = (*m)[:last], -1
	return o
}
