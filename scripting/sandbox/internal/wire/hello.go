package wire

// Layer is one of the bounds around a child, as the child found it.
type Layer struct {
	Name string
	On   bool
	Note string // why it is off, or what it is in detail
}

// AppendHello appends a frame that says which layers are on.
func AppendHello(buf []byte, layers []Layer) ([]byte, error) {
	start := len(buf)
	buf = append(Begin(buf, KindHello), byte(len(layers)))
	for _, l := range layers {
		buf = appendText(appendBool(appendText(buf, l.Name), l.On), l.Note)
	}
	return buf, End(buf, start)
}

// Hello decodes a KindHello.
func Hello(body []byte) ([]Layer, error) {
	d := decoder{b: body}
	layers := make([]Layer, d.count(3))
	for i := range layers {
		layers[i] = Layer{Name: d.text(), On: d.bool(), Note: d.text()}
	}
	return layers, d.close()
}
