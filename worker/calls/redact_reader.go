package calls

import (
	"errors"
	"io"
)

// reader takes the secrets that are known now out of what is read, wherever one begins and ends. What it holds is
// bounded by the longest of their forms.
func (r *redactor) reader(from io.Reader) io.Reader {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.forms) == 0 {
		return from
	}
	c := &cleaner{from: from, longest: len(r.forms[0]), buf: make([]byte, 32<<10)}
	for _, form := range r.forms {
		c.by[form[0]] = append(c.by[form[0]], form)
	}
	return c
}

// cleaner is a reader without secrets.
type cleaner struct {
	from    io.Reader
	by      [256][]string // forms by their first byte, the longest first
	longest int
	buf     []byte
	in, out []byte // read and not looked at; looked at and not handed on
	err     error  // of from
}

// Read hands on what is clean.
func (c *cleaner) Read(p []byte) (int, error) {
	for len(c.out) == 0 && c.err == nil {
		n, err := c.from.Read(c.buf)
		c.in, c.err = append(c.in, c.buf[:n]...), err
		if err == nil || errors.Is(err, io.EOF) {
			c.clean()
		}
	}
	if len(c.out) == 0 {
		return 0, c.err
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// clean looks at all that no secret can begin in which ends behind it; at the end, at all.
func (c *cleaner) clean() {
	end := len(c.in) - c.longest + 1
	if c.err != nil {
		end = len(c.in)
	}
	c.out = c.out[:0]
	i := 0
	for i < end {
		from := i
		for i < end && c.by[c.in[i]] == nil {
			i++
		}
		c.out = append(c.out, c.in[from:i]...)
		if i >= end {
			break
		}
		if form := c.at(i); form != "" {
			c.out = append(c.out, redacted...)
			i += len(form)
		} else {
			c.out = append(c.out, c.in[i])
			i++
		}
	}
	c.in = append(c.in[:0], c.in[i:]...)
}

// at is the secret that begins at a place; empty when none does.
func (c *cleaner) at(i int) string {
	for _, form := range c.by[c.in[i]] {
		if len(form) <= len(c.in)-i && string(c.in[i:i+len(form)]) == form {
			return form
		}
	}
	return ""
}
