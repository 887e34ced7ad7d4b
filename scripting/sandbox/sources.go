package sandbox

// sources are those that a child knows, each in its slot; when there are too many the one that was used least recently
// makes room.
type sources struct {
	slots [slots]struct {
		key  string
		used uint64
	}
	byKey map[string]int
	clock uint64
}

// forget makes the child be told a source again.
func (s *sources) forget(key string) {
	if i, ok := s.byKey[key]; ok {
		delete(s.byKey, key)
		s.slots[i].key, s.slots[i].used = "", 0
	}
}

// slot returns the slot of a source, from 1, and whether the child has to be told.
func (s *sources) slot(key string) (slot int, fresh bool) {
	s.clock++
	if i, ok := s.byKey[key]; ok {
		s.slots[i].used = s.clock
		return i + 1, false
	}
	oldest := 0
	for i := range s.slots {
		if s.slots[i].used < s.slots[oldest].used {
			oldest = i
		}
	}
	if s.byKey == nil {
		s.byKey = map[string]int{}
	}
	delete(s.byKey, s.slots[oldest].key) // which may be none
	s.slots[oldest].key, s.slots[oldest].used = key, s.clock
	s.byKey[key] = oldest
	return oldest + 1, true
}
