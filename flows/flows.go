// Package flows is the script library that is shipped with Thence: what takes Stripe's answers and failures when a call
// names no script of its own, and a checkout that chains them. README.md has a line on each.
//
// Hand FS to scripting.NewLibrary as the first layer; a script of the same name in a later layer takes the place of one
// here.
package flows

import "embed"

// FS has the scripts at its root.
//
//go:embed *.tengo
var FS embed.FS
