package sandbox

import "container/list"

// fairQueue holds jobs that wait. Contexts take turns, so one that puts in a thousand jobs delays those of the others
// by one job at a time. The zero fairQueue is empty.
type fairQueue struct{ root line }

// line is what waits under one name: the queue itself has a line for each context, and a context its tasks.
type line struct {
	name   string
	parent *line
	place  *list.Element // in parent.order
	below  map[string]*line
	order  list.List // of *line, or of *task in a context's line; the next in front
	size   int       // tasks, in all lines below
}

func (q *fairQueue) len() int { return q.root.size }

// push puts a task behind the others of its context.
func (q *fairQueue) push(t *task) {
	t.line = q.root.under(t.context())
	t.place = t.line.order.PushBack(t)
	t.line.grow(1)
}

// pushFront puts a task before all others: it has had its turn.
func (q *fairQueue) pushFront(t *task) {
	t.line = q.root.under(t.context())
	t.place = t.line.order.PushFront(t)
	t.line.grow(1)
	for l := t.line; l.parent != nil; l = l.parent {
		l.parent.order.MoveToFront(l.place)
	}
}

// pop takes the task whose turn it is, or nil.
func (q *fairQueue) pop() *task {
	if q.root.size == 0 {
		return nil
	}
	l := &q.root
	for {
		front := l.order.Front()
		t, ok := front.Value.(*task)
		if ok {
			q.remove(t)
			return t
		}
		l.order.MoveToBack(front)
		l = front.Value.(*line)
	}
}

// remove takes a task out, wherever it stands.
func (q *fairQueue) remove(t *task) {
	t.line.order.Remove(t.place)
	t.line.grow(-1)
	t.line, t.place = nil, nil
}

// each calls f with every task; f may remove the task.
func (q *fairQueue) each(f func(*task)) { q.root.each(f) }

func (l *line) each(f func(*task)) {
	for at := l.order.Front(); at != nil; {
		next := at.Next()
		switch v := at.Value.(type) {
		case *task:
			f(v)
		case *line:
			v.each(f)
		}
		at = next
	}
}

// longest is the line of the context with the most tasks, or nil.
func (q *fairQueue) longest() *line {
	var most *line
	for _, l := range q.root.below {
		if most == nil || l.size > most.size {
			most = l
		}
	}
	return most
}

// waiting is how many tasks of a context there are.
func (q *fairQueue) waiting(place string) int {
	if l, ok := q.root.below[place]; ok {
		return l.size
	}
	return 0
}

// last is the task that came last to a context's line.
func (l *line) last() *task { return l.order.Back().Value.(*task) }

// under returns the line of a name below l, and makes it when there is none.
func (l *line) under(name string) *line {
	if below, ok := l.below[name]; ok {
		return below
	}
	if l.below == nil {
		l.below = map[string]*line{}
	}
	below := &line{name: name, parent: l}
	below.place = l.order.PushBack(below)
	l.below[name] = below
	return below
}

// grow counts n tasks more, and drops the lines that have none left.
func (l *line) grow(n int) {
	for ; l != nil; l = l.parent {
		if l.size += n; l.size == 0 && l.parent != nil {
			l.parent.order.Remove(l.place)
			delete(l.parent.below, l.name)
		}
	}
}
