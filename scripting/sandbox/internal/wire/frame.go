package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

const header = 5 // bytes of a length and a kind

// Begin appends the head of a frame to buf, and End fills in its length: what stands between them is the body.
func Begin(buf []byte, k Kind) []byte { return append(buf, 0, 0, 0, 0, byte(k)) }

// End completes the frame that begins at start. It is an error when the frame is larger than MaxFrame.
func End(buf []byte, start int) error {
	n := len(buf) - start - 4
	if n > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is larger than %d", n, MaxFrame)
	}
	binary.LittleEndian.PutUint32(buf[start:], uint32(n))
	return nil
}

// Reader reads frames.
type Reader struct {
	src   io.Reader
	buf   []byte
	start int // of what has not been taken yet
	end   int
}

// NewReader makes a reader with a buffer for ordinary frames; it grows for larger ones, up to MaxFrame.
func NewReader(src io.Reader) *Reader { return &Reader{src: src, buf: make([]byte, 64<<10)} }

// Buffered tells whether Next would return without reading from the source.
func (r *Reader) Buffered() bool {
	n, err := r.size()
	return err != nil || n > 0 && r.end-r.start >= n
}

// Next returns the next frame, and waits for it. The body is valid until the next call. At the source's end the error
// is io.EOF, inside a frame io.ErrUnexpectedEOF; what is no frame is an ErrFormat.
func (r *Reader) Next() (Kind, []byte, error) {
	for {
		n, err := r.size()
		if err != nil {
			return 0, nil, err
		}
		if n > 0 && r.end-r.start >= n {
			frame := r.buf[r.start : r.start+n]
			r.start += n
			return Kind(frame[4]), frame[header:], nil
		}
		r.makeRoom(n)
		if err := r.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// Rest returns what was read and is no complete frame.
func (r *Reader) Rest() []byte { return r.buf[r.start:r.end] }

// size is the number of bytes of the next frame with its head; 0 while the head is not there yet.
func (r *Reader) size() (int, error) {
	if r.end-r.start < header {
		return 0, nil
	}
	n := binary.LittleEndian.Uint32(r.buf[r.start:])
	if n == 0 || n > MaxFrame {
		return 0, fmt.Errorf("%w: its length is %d", ErrFormat, n)
	}
	return int(n) + 4, nil
}

// makeRoom puts the rest to the buffer's start when a frame of n bytes does not fit behind it.
func (r *Reader) makeRoom(n int) {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	if n <= len(r.buf)-r.start && r.end < len(r.buf) {
		return
	}
	to := r.buf
	if n > len(to) {
		to = make([]byte, n)
	}
	r.end = copy(to, r.buf[r.start:r.end])
	r.start, r.buf = 0, to
}

func (r *Reader) fill() error {
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil
	}
	if err == io.EOF && r.end > r.start {
		return io.ErrUnexpectedEOF
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
