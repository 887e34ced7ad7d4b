// Package wire is what the worker and its child processes say to each other: frames over two pipes.
//
// A frame is a length (4 bytes, little endian, of what follows), a kind (1 byte) and a body. Lengths are bounded in
// both directions before anything is allocated for them. Numbers in bodies are varints, texts and byte strings have
// their length in front, and nothing may be left at a body's end: whatever does not decode exactly is an [ErrFormat],
// after which the connection is of no more use.
//
// The parent sends [KindScript] for each script of the library, then [KindReady]; [KindLibrary], followed by the same,
// for another library, and [KindDefine] for a source, once for each child; and [KindRun] for each job. The child sends
// [KindHello] once it is confined, and [KindDone] for each job, in the order of the jobs.
package wire

import "errors"

// Kind tells frames apart.
type Kind byte

// The kinds of frames.
const (
	KindScript  Kind = iota + 1 // to the child: a script of the library
	KindReady                   // to the child: the library is complete
	KindDefine                  // to the child: a source, put into a slot
	KindRun                     // to the child: a job
	KindHello                   // to the parent: which layers are on
	KindDone                    // to the parent: how a job ended
	KindLibrary                 // to the child: the scripts that follow are a library, put into a slot
)

// MaxFrame is how many bytes may follow a frame's length, in either direction.
const MaxFrame = 4 << 20

// ErrFormat says that bytes are no frame, or a frame's body is not what its kind says.
var ErrFormat = errors.New("a frame is damaged")
