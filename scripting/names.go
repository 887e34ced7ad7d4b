package scripting

import (
	"errors"
	"fmt"
	"slices"

	"github.com/thence-dev/thence/scripting/internal/compile"
)

// CheckNames tells whether every script that the library's scripts name literally is there: in the options then and catch
// of calls, and as the script of a job for the same pool. A script that names one which is not there compiles, and fails
// when it comes to that line. The error joins an *[Error] for each such place. Imports are checked by [NewLibrary].
func (l *Library) CheckNames() error {
	var errs []error
	for _, name := range l.names {
		errs = append(errs, l.checkNames(name, l.sources[name], nil)...)
	}
	return errors.Join(errs...)
}

// CheckNames does the same for one script that compiles, and that may be new to the library; also has names of others that
// will be there as well.
func (e *Engine) CheckNames(s Script, also ...string) error {
	source := e.source(s)
	return errors.Join(e.lib.checkNames(shown(s), source, also)...)
}

func (l *Library) checkNames(script, source string, also []string) (errs []error) {
	for _, r := range compile.References(script, source, l.api) {
		if l.Has(r.Name) || slices.Contains(also, r.Name) {
			continue
		}
		errs = append(errs, &Error{Kind: KindUnknownScript, Script: r.Script, Line: r.Line, Column: r.Column, Code: shorten(r.Code),
			Message: escaped(fmt.Sprintf("option %s: there is no script %q in the library%s", r.Option, r.Name,
				compile.Suggest(r.Name, append(l.Names(), also...))))})
	}
	return errs
}

// api tells whether a module is an API's: stripe, or one that service import has made.
func (l *Library) api(module string) bool {
	source, ok := l.sources[module]
	return module == "stripe" || ok && compile.CallsModule(source, "openapi", "define")
}
