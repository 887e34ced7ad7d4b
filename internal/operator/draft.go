package operator

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/thence-dev/thence/internal/job"
	"github.com/thence-dev/thence/internal/stream"
)

// draft is a commit that is being changed, field by field. What is not changed stays byte for byte and in its place, fields
// that this program does not know included: the workers may be newer than it is.
type draft struct {
	fields []field
	deed   job.Deed // what is recorded of the change
	err    error    // of set, kept for encode
}

type field struct {
	name  string
	value json.RawMessage
}

// open reads a context's last commit; of a context without one, the commit that it begins with.
func open(entry stream.Entry) (job.Commit, *draft, error) {
	data := entry.Data
	if data == nil {
		var err error
		if data, err = job.Encode(job.Commit{Version: job.Version, State: []byte("{}")}); err != nil {
			return job.Commit{}, nil, err
		}
	}
	old, err := job.DecodeCommit(data)
	if err != nil {
		return old, nil, err
	}
	d, err := readDraft(data)
	return old, d, err
}

func readDraft(data []byte) (*draft, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if begin, err := dec.Token(); err != nil || begin != json.Delim('{') {
		return nil, fmt.Errorf("the commit is no JSON object: begins with %v, %w", begin, err)
	}
	var d draft
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		d.fields = append(d.fields, field{fmt.Sprint(name), value})
	}
	return &d, nil
}

// set gives a field a value, at its place or at the end.
func (d *draft) set(name string, v any) {
	value, err := job.Encode(v)
	if err != nil {
		d.err = err
		return
	}
	for i := range d.fields {
		if d.fields[i].name == name {
			d.fields[i].value = value
			return
		}
	}
	d.fields = append(d.fields, field{name, value})
}

// remove leaves a field out.
func (d *draft) remove(name string) {
	kept := d.fields[:0]
	for _, f := range d.fields {
		if f.name != name {
			kept = append(kept, f)
		}
	}
	d.fields = kept
}

func (d *draft) encode() ([]byte, error) {
	if d.err != nil {
		return nil, d.err
	}
	b := []byte{'{'}
	for i, f := range d.fields {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := job.Encode(f.name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return append(b, '}'), nil
}
