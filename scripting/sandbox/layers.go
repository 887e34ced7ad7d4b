package sandbox

import (
	"fmt"
	"strings"

	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// Layer is one of the bounds around a child process.
type Layer struct {
	Name string
	On   bool
	Note string // why it is off, or what it is in detail; may be empty
}

// Layers are the bounds around each child process, as the first child found them.
type Layers []Layer

// Missing names the layers that are not on.
func (l Layers) Missing() []string {
	var names []string
	for _, layer := range l {
		if !layer.On {
			names = append(names, layer.Name)
		}
	}
	return names
}

// String lists the layers in one line: "processes, files, memory (...); off: landlock (the kernel has none)".
func (l Layers) String() string {
	var on, off []string
	for _, layer := range l {
		text := layer.Name
		if layer.Note != "" {
			text = fmt.Sprintf("%s (%s)", layer.Name, layer.Note)
		}
		if layer.On {
			on = append(on, text)
		} else {
			off = append(off, text)
		}
	}
	s := strings.Join(on, ", ")
	if len(off) > 0 {
		s += "; off: " + strings.Join(off, ", ")
	}
	return s
}

func layersOf(found []wire.Layer) Layers {
	layers := make(Layers, len(found))
	for i, l := range found {
		layers[i] = Layer(l)
	}
	return layers
}
