//go:build !linux

package sandbox

import (
	"errors"
	"runtime"

	"github.com/thence-dev/thence/scripting/sandbox/internal/wire"
)

// confine has nothing to put around this process on systems other than Linux: what bounds it are the guards of the
// engine, the watch over the heap, and the parent's deadline.
func confine(int64) []wire.Layer {
	err := errors.New("only on linux, not on " + runtime.GOOS)
	var layers []wire.Layer
	for _, name := range []string{"files", "memory", "rlimits", "no_new_privs", "landlock", "seccomp"} {
		layers = append(layers, wire.Layer{Name: name, Note: err.Error()})
	}
	return layers
}
