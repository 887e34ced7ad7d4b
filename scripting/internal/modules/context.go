package modules

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/d5/tengo/v2"

	"github.com/thence-dev/thence/scripting/internal/value"
)

// contextMembers is the context's state. Each value is kept as JSON and decoded when it is asked for: what a script
// gets is its own copy, and only set, delete change the state.
var contextMembers = members{
	"get":    fn{1, 2, contextGet},
	"set":    fn{2, 2, contextSet},
	"delete": fn{1, 1, contextDelete},
	"all":    fn{0, 0, contextAll},
}

// state is the context's state, a JSON object, split into its members when a script first touches it.
type state struct {
	source  []byte
	split   bool
	members map[string]string // JSON
}

func (s *state) open() error {
	if s.split {
		return nil
	}
	s.members = map[string]string{}
	if len(s.source) > 0 {
		list, err := value.Members(s.source)
		if err != nil {
			return fmt.Errorf("the context's state is damaged: %w", err)
		}
		for _, m := range list {
			s.members[m.Key] = m.Raw
		}
	}
	s.split = true
	return nil
}

// encode returns the state as JSON: as it was, unless the script touched it.
func (s *state) encode() ([]byte, error) {
	if !s.split {
		if len(s.source) == 0 {
			return []byte("{}"), nil
		}
		if !bytes.HasPrefix(bytes.TrimLeft(s.source, " \t\r\n"), []byte{'{'}) {
			return nil, errors.New("the context's state is not a JSON object")
		}
		return bytes.Clone(s.source), nil
	}
	buf := []byte{'{'}
	for i, key := range slices.Sorted(maps.Keys(s.members)) {
		if i > 0 {
			buf = append(buf, ',')
		}
		var err error
		if buf, err = value.AppendJSON(buf, "state", &tengo.String{Value: key}); err != nil {
			return nil, err
		}
		buf = append(append(buf, ':'), s.members[key]...)
	}
	return append(buf, '}'), nil
}

func stateKey(r *Run, args []tengo.Object) (string, error) {
	key, ok := args[0].(*tengo.String)
	if !ok {
		return "", wrong(0, "a string", args[0])
	}
	return key.Value, r.state.open()
}

func contextGet(r *Run, args []tengo.Object) (tengo.Object, error) {
	key, err := stateKey(r, args)
	if err != nil {
		return nil, err
	}
	raw, ok := r.state.members[key]
	if !ok || raw == "null" {
		return otherwise(args)
	}
	return value.Decode([]byte(raw))
}

func contextSet(r *Run, args []tengo.Object) (tengo.Object, error) {
	key, err := stateKey(r, args)
	if err != nil {
		return nil, err
	}
	if _, err := value.Encode("the key", args[0]); err != nil {
		return nil, err
	}
	raw, err := value.Encode("state."+key, args[1])
	if err != nil {
		return nil, err
	}
	if len(raw) > r.limits.State {
		return nil, &LimitError{"state", len(raw), r.limits.State}
	}
	r.state.members[key] = string(raw)
	return tengo.UndefinedValue, nil
}

func contextDelete(r *Run, args []tengo.Object) (tengo.Object, error) {
	key, err := stateKey(r, args)
	if err == nil {
		delete(r.state.members, key)
	}
	return tengo.UndefinedValue, err
}

func contextAll(r *Run, _ []tengo.Object) (tengo.Object, error) {
	if err := r.state.open(); err != nil {
		return nil, err
	}
	all := value.NewMap(len(r.state.members))
	for key, raw := range r.state.members {
		v, err := value.Decode([]byte(raw))
		if err != nil {
			return nil, err
		}
		all.Set(key, v)
	}
	return all, nil
}
