package modules

import "github.com/d5/tengo/v2"

// logMembers writes lines with a level to the output. The highest is called fail because error is a keyword of Tengo.
var logMembers = members{
	"debug": logLine("DEBUG"),
	"info":  logLine("INFO"),
	"warn":  logLine("WARN"),
	"fail":  logLine("ERROR"),
}

func logLine(level string) fn {
	return fn{0, -1, func(r *Run, args []tengo.Object) (tengo.Object, error) {
		r.out.write(level + " " + printed(args, " ") + "\n")
		return tengo.UndefinedValue, nil
	}}
}
