//go:build unix && !linux

package sandbox

import "os"

// newPageFile makes the file behind a page. It has no name any more.
func newPageFile() (*os.File, error) {
	f, err := os.CreateTemp("", "thence-sandbox-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Truncate(pageSize); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
