package apidoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// jsonReader reads JSON into YAML's nodes, which know their lines. YAML's own parser takes most JSON, but not all: tabs,
// for one.
type jsonReader struct {
	dec  *json.Decoder
	data []byte
	line int // of the byte before offset
	at   int
}

func parseJSON(data []byte) (*yaml.Node, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	r := &jsonReader{dec: json.NewDecoder(bytes.NewReader(data)), data: data, line: 1}
	r.dec.UseNumber()
	n, err := r.value()
	if err == nil {
		if _, end := r.dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something stands behind the document's end")
		}
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, &Error{Line: r.here(), Message: "the document can't be read: " + err.Error()}
	}
	return n, nil
}

// here is the line that has been read up to.
func (r *jsonReader) here() int {
	to := min(int(r.dec.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.at:to], []byte{'\n'})
	r.at = to
	return r.line
}

func (r *jsonReader) value() (*yaml.Node, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.here()}
	switch t := t.(type) {
	case json.Delim:
		return n, r.container(n, t)
	case string:
		n.Tag, n.Value = "!!str", t
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(t)
	default:
		n.Tag = "!!null"
	}
	return n, nil
}

func (r *jsonReader) container(n *yaml.Node, open json.Delim) error {
	n.Kind = yaml.SequenceNode
	if open == '{' {
		n.Kind = yaml.MappingNode
	}
	for r.dec.More() {
		if open == '{' {
			key, err := r.value()
			if err != nil {
				return err
			}
			n.Content = append(n.Content, key)
		}
		v, err := r.value()
		if err != nil {
			return err
		}
		n.Content = append(n.Content, v)
	}
	_, err := r.dec.Token()
	return err
}
