package simulation

import (
	"container/heap"
	"time"
)

// agenda holds what is to happen at a time of the history.
type agenda struct {
	entries entries
	count   uint64
}

type entry struct {
	at    time.Time
	order uint64 // of two at the same time the one that was entered first comes first
	do    func()
}

// at enters something.
func (a *agenda) at(t time.Time, do func()) {
	a.count++
	heap.Push(&a.entries, entry{t, a.count, do})
}

// due takes the next entry that is due, or returns nil.
func (a *agenda) due(now time.Time) func() {
	if len(a.entries) == 0 || a.entries[0].at.After(now) {
		return nil
	}
	return heap.Pop(&a.entries).(entry).do
}

// next is when the next entry is due, or the limit if that comes first.
func (a *agenda) next(limit time.Time) time.Time {
	if len(a.entries) > 0 && a.entries[0].at.Before(limit) {
		return a.entries[0].at
	}
	return limit
}

type entries []entry

func (e entries) Len() int { return len(e) }
func (e entries) Less(i, j int) bool {
	if e[i].at.Equal(e[j].at) {
		return e[i].order < e[j].order
	}
	return e[i].at.Before(e[j].at)
}
func (e entries) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *entries) Push(x any)   { *e = append(*e, x.(entry)) }
func (e *entries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
