//go:build !linux

package disk

import "errors"

var errLinux = errors.New("only Linux has it")

// CutPower ends the file system as it stands.
func (d *Disk) CutPower() error { return errLinux }

// Sync writes everything down, as if a long time had passed.
func (d *Disk) Sync() error { return errLinux }
