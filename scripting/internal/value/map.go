package value

import (
	"iter"
	"slices"
	"strings"

	"github.com/d5/tengo/v2"
)

// smallMap is the number of keys up to which a map is a sorted slice.
const smallMap = 32

type entry struct {
	key string
	val tengo.Object
}

// Map is a map from strings to values that iterates, prints and encodes in key order. The zero Map is empty and ready
// to use. It is for one goroutine at a time.
type Map struct {
	tengo.ObjectImpl
	small  []entry                 // sorted; in use while large is nil
	large  map[string]tengo.Object // in use beyond smallMap keys
	keys   []string                // of large, sorted; nil when they have to be sorted again
	frozen bool
}

// NewMap makes an empty map with room for n keys.
func NewMap(n int) *Map {
	m := &Map{}
	if n > smallMap {
		m.large = make(map[string]tengo.Object, n)
	} else if n > 0 {
		m.small = make([]entry, 0, n)
	}
	return m
}

// Len is the number of keys.
func (m *Map) Len() int {
	if m.large != nil {
		return len(m.large)
	}
	return len(m.small)
}

// find returns where key is, or belongs, in the small form.
func (m *Map) find(key string) (int, bool) {
	lo, hi := 0, len(m.small)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if m.small[mid].key < key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(m.small) && m.small[lo].key == key
}

// Get returns the value of key.
func (m *Map) Get(key string) (tengo.Object, bool) {
	if m.large != nil {
		v, ok := m.large[key]
		return v, ok
	}
	if i, ok := m.find(key); ok {
		return m.small[i].val, true
	}
	return nil, false
}

// Set gives key a value, also in a frozen map: only scripts are held to that.
func (m *Map) Set(key string, val tengo.Object) {
	if m.large != nil {
		m.setLarge(key, val)
		return
	}
	i, ok := m.find(key)
	if ok {
		m.small[i].val = val
		return
	}
	if len(m.small) < smallMap {
		m.small = slices.Insert(m.small, i, entry{key, val})
		return
	}
	m.grow()
	m.setLarge(key, val)
}

func (m *Map) setLarge(key string, val tengo.Object) {
	n := len(m.large)
	m.large[key] = val
	if len(m.large) == n {
		return
	}
	if len(m.keys) == n && n > 0 && key > m.keys[n-1] {
		m.keys = append(m.keys, key)
	} else {
		m.keys = nil
	}
}

// grow turns the small form into the large one.
func (m *Map) grow() {
	m.large = make(map[string]tengo.Object, 2*len(m.small))
	m.keys = make([]string, 0, 2*len(m.small))
	for _, e := range m.small {
		m.large[e.key] = e.val
		m.keys = append(m.keys, e.key)
	}
	m.small = nil
}

// Delete removes key.
func (m *Map) Delete(key string) {
	if m.large == nil {
		if i, ok := m.find(key); ok {
			m.small = slices.Delete(m.small, i, i+1)
		}
		return
	}
	if _, ok := m.large[key]; ok {
		delete(m.large, key)
		m.keys = nil
	}
}

// Keys returns the keys in order. The caller must not change them; later changes of the map do not show in them.
func (m *Map) Keys() []string {
	if m.large == nil {
		keys := make([]string, len(m.small))
		for i, e := range m.small {
			keys[i] = e.key
		}
		return keys
	}
	if m.keys == nil {
		m.keys = make([]string, 0, len(m.large))
		for k := range m.large {
			m.keys = append(m.keys, k)
		}
		slices.Sort(m.keys)
	}
	return m.keys
}

// All iterates over the map in key order. The map must not change meanwhile.
func (m *Map) All() iter.Seq2[string, tengo.Object] {
	return func(yield func(string, tengo.Object) bool) {
		if m.large == nil {
			for _, e := range m.small {
				if !yield(e.key, e.val) {
					return
				}
			}
			return
		}
		for _, k := range m.Keys() {
			if !yield(k, m.large[k]) {
				return
			}
		}
	}
}

// Freeze returns a copy of the map, one level deep, that scripts cannot change.
func (m *Map) Freeze() *Map {
	c := NewMap(m.Len())
	for k, v := range m.All() {
		c.Set(k, v)
	}
	c.frozen = true
	return c
}

// Frozen tells whether scripts may not change the map.
func (m *Map) Frozen() bool { return m.frozen }

// TypeName returns "map" or "immutable-map".
func (m *Map) TypeName() string {
	if m.frozen {
		return "immutable-map"
	}
	return "map"
}

func (m *Map) String() string { return Text(m) }

// Copy returns a deep copy, which scripts may change.
func (m *Map) Copy() tengo.Object { return Copy(m) }

// Equals compares keys and values; whether a map is frozen makes no difference.
func (m *Map) Equals(x tengo.Object) bool { return Equal(m, x) }

// IsFalsy is true of an empty map.
func (m *Map) IsFalsy() bool { return m.Len() == 0 }

// IndexGet returns the value of a key, or undefined.
func (m *Map) IndexGet(index tengo.Object) (tengo.Object, error) {
	key, err := keyOf(index)
	if err != nil {
		return nil, err
	}
	if v, ok := m.Get(key); ok {
		return v, nil
	}
	return tengo.UndefinedValue, nil
}

// IndexSet gives a key a value.
func (m *Map) IndexSet(index, val tengo.Object) error {
	if m.frozen {
		return tengo.ErrNotIndexAssignable
	}
	key, err := keyOf(index)
	if err != nil {
		return err
	}
	m.Set(key, val)
	return nil
}

// keyOf makes a map's key of an index: as in Tengo, anything but undefined will do.
func keyOf(index tengo.Object) (string, error) {
	switch index := index.(type) {
	case *tengo.String:
		return index.Value, nil
	case *tengo.Undefined, *Secret:
		return "", tengo.ErrInvalidIndexType
	}
	return Text(index), nil
}

// CanIterate is true.
func (m *Map) CanIterate() bool { return true }

// Iterate walks the keys that the map has now, in order, and leaves out those deleted on the way.
func (m *Map) Iterate() tengo.Iterator { return &mapIterator{m: m, keys: m.Keys()} }

type mapIterator struct {
	tengo.ObjectImpl
	m    *Map
	keys []string
	next int
	val  tengo.Object
}

func (i *mapIterator) TypeName() string { return "map-iterator" }
func (i *mapIterator) String() string   { return "<map-iterator>" }

func (i *mapIterator) Next() bool {
	for i.next < len(i.keys) {
		i.next++
		if v, ok := i.m.Get(i.keys[i.next-1]); ok {
			i.val = v
			return true
		}
	}
	return false
}

func (i *mapIterator) Key() tengo.Object   { return &tengo.String{Value: i.keys[i.next-1]} }
func (i *mapIterator) Value() tengo.Object { return i.val }

// fromEntries makes a map of entries in any order; of several with one key the last counts. It keeps the slice.
func fromEntries(entries []entry) *Map {
	byKey := func(a, b entry) int { return strings.Compare(a.key, b.key) }
	sorted := true
	for i := 1; i < len(entries) && sorted; i++ {
		sorted = entries[i-1].key < entries[i].key
	}
	if !sorted {
		slices.SortStableFunc(entries, byKey)
		entries = lastOfEach(entries)
	}
	if len(entries) <= smallMap {
		return &Map{small: entries}
	}
	m := &Map{small: entries}
	m.grow()
	return m
}

// lastOfEach keeps the last of the entries that share a key.
func lastOfEach(entries []entry) []entry {
	kept := entries[:0]
	for i, e := range entries {
		if i+1 < len(entries) && entries[i+1].key == e.key {
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// MapOf makes a map of keys, which must be strings, and values in turns.
func MapOf(pairs []tengo.Object) *Map {
	entries := make([]entry, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		key, _ := pairs[i].(*tengo.String)
		entries = append(entries, entry{key.Value, pairs[i+1]})
	}
	return fromEntries(entries)
}
