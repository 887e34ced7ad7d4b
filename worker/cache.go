package worker

import (
	"container/list"
	"sync"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// view is a context as this process last saw it. It belongs to the lane that runs the context.
type view struct {
	base    stream.Base
	commit  job.Commit
	size    int
	flushed bool // this process has published the commit's outbox, or there is none
}

// views keeps the contexts that were used last, within a bound of bytes.
type views struct {
	mu    sync.Mutex
	limit int
	bytes int
	order *list.List // of *cached, the last used in front
	byKey map[string]*list.Element
}

type cached struct {
	name string
	view view
}

// entryOverhead is what an entry costs beside its value.
const entryOverhead = 1 << 10

func newViews(limit int) *views {
	return &views{limit: limit, order: list.New(), byKey: map[string]*list.Element{}}
}

func (v *views) get(name string) (view, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.byKey[name]
	if !ok {
		return view{}, false
	}
	v.order.MoveToFront(e)
	return e.Value.(*cached).view, true
}

func (v *views) put(name string, w view) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.byKey[name]; ok {
		c := e.Value.(*cached)
		v.bytes += w.size - c.view.size
		c.view = w
		v.order.MoveToFront(e)
	} else {
		v.byKey[name] = v.order.PushFront(&cached{name, w})
		v.bytes += w.size + entryOverhead
	}
	for v.bytes > v.limit && v.order.Len() > 1 {
		v.drop(v.order.Back().Value.(*cached).name)
	}
}

func (v *views) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(name)
}

func (v *views) drop(name string) {
	if e, ok := v.byKey[name]; ok {
		v.bytes -= e.Value.(*cached).view.size + entryOverhead
		v.order.Remove(e)
		delete(v.byKey, name)
	}
}
