package modules

import _ "embed" // for enumSource

// enumSource is Tengo's enum (MIT licence, github.com/d5/tengo): its functions call those of the script, which Go code
// cannot do.
//
//go:embed enum.tengo
var enumSource string
