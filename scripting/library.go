package scripting

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/thence-dev/thence/scripting/internal/compile"
	"github.com/thence-dev/thence/scripting/internal/modules"
)

// Library is a set of named scripts that all compile. It never changes, and is safe for concurrent use.
type Library struct {
	sources  map[string]string
	names    []string
	release  string
	programs map[string]func() (*program, error)
	contents map[string]func() string
}

const (
	extension     = ".tengo"
	librarySource = 64 << 10 // bytes of one script
)

// scriptName is made when it is first asked for: a sandbox process, which should start quickly, never does.
var scriptName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,99}$`) })

// NewLibrary reads every *.tengo file at the root of each layer; the file's name without .tengo is the script's name. A
// script of a later layer takes the place of one with the same name in an earlier layer. All scripts must compile: the
// error joins an error for each file that is wrong, those of scripts being *[Error].
func NewLibrary(layers ...fs.FS) (*Library, error) {
	l := &Library{sources: map[string]string{}}
	var errs []error
	for _, layer := range layers {
		errs = append(errs, l.read(layer)...)
	}
	l.index()
	if errs = append(errs, l.check()...); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return l, nil
}

// Load fills an empty Library with scripts, by name, that another process has checked. They are compiled when they are
// first run or imported.
func (l *Library) Load(sources map[string]string) {
	l.sources = maps.Clone(sources)
	l.index()
}

func (l *Library) index() {
	l.names = slices.Sorted(maps.Keys(l.sources))
	l.release = hash(l)
	l.programs, l.contents = make(map[string]func() (*program, error), len(l.names)), make(map[string]func() string, len(l.names))
	for _, name := range l.names {
		l.programs[name] = sync.OnceValues(func() (*program, error) { return l.compile(name, l.sources[name]) })
		l.contents[name] = sync.OnceValue(func() string { return l.content(name) })
	}
}

func (l *Library) read(layer fs.FS) (errs []error) {
	files, err := fs.Glob(layer, "*"+extension)
	if err != nil {
		return []error{err}
	}
	if _, err := fs.Stat(layer, "."); err != nil {
		return []error{fmt.Errorf("read scripts: %w", err)}
	}
	for _, file := range files {
		if err := l.add(layer, file); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (l *Library) add(layer fs.FS, file string) error {
	name := strings.TrimSuffix(path.Base(file), extension)
	if !scriptName().MatchString(name) {
		return fmt.Errorf("%s: a script's name has letters, digits and _ only, does not start with a digit, "+
			"and is 100 characters long at most", file)
	}
	if slices.Contains(modules.Names(), name) {
		return fmt.Errorf("%s: the name is taken by the module %s", file, name)
	}
	src, err := fs.ReadFile(layer, file)
	if err != nil {
		return fmt.Errorf("read script: %w", err)
	}
	if len(src) > librarySource {
		return fmt.Errorf("%s: the script has %d bytes, more than %d", file, len(src), librarySource)
	}
	l.sources[name] = string(src)
	return nil
}

// check compiles all scripts. An error in an imported script is reported once.
func (l *Library) check() (errs []error) {
	seen := map[string]bool{}
	for _, name := range l.names {
		if _, err := l.programs[name](); err != nil && !seen[err.Error()] {
			seen[err.Error()] = true
			errs = append(errs, err)
		}
	}
	return errs
}

// hash is the release of a library: names and sources with their lengths, in the order of the names.
func hash(l *Library) string {
	h := sha256.New()
	for _, name := range l.names {
		_, _ = fmt.Fprintf(h, "%d %s %d %s\n", len(name), name, len(l.sources[name]), l.sources[name])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// Has tells whether the library has a script of that name.
func (l *Library) Has(name string) bool {
	_, ok := l.sources[name]
	return ok
}

// Content identifies what a script is, apart from the release that it stands in: two libraries give the same for a name
// when the script and all that it imports are the same in both. It is empty for a name that the library does not have.
// The first use may compile the script.
func (l *Library) Content(name string) string {
	if get, ok := l.contents[name]; ok {
		return get()
	}
	return ""
}

// content is what Content says. Of a script that does not compile nobody knows what it imports: it is a new one in each
// release.
func (l *Library) content(name string) string {
	h := sha256.New()
	p, err := l.programs[name]()
	if err != nil {
		_, _ = fmt.Fprintf(h, "release %s %s", l.release, name)
		return hex.EncodeToString(h.Sum(nil))
	}
	for _, f := range p.Files() {
		_, _ = fmt.Fprintf(h, "%d %s %d %s\n", len(f.Name), f.Name, len(f.Source), f.Source)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Size is how many bytes the names and the sources have together.
func (l *Library) Size() (n int) {
	for name, source := range l.sources {
		n += len(name) + len(source)
	}
	return n
}

// Names lists the scripts in order.
func (l *Library) Names() []string { return slices.Clone(l.names) }

// Source returns a script's source.
func (l *Library) Source(name string) (string, bool) {
	src, ok := l.sources[name]
	return src, ok
}

// Release identifies the library's content: 12 hex digits, the same for the same names and sources.
func (l *Library) Release() string { return l.release }

// compile compiles a source that may import the library's scripts.
func (l *Library) compile(name, src string) (*program, error) {
	p, err := compile.Compile(name, src, compile.Env{
		Builtins: modules.Builtins(),
		Native:   modules.Has,
		Source: func(name string) (string, bool) {
			if src, ok := modules.Source(name); ok {
				return src, true
			}
			return l.Source(name)
		},
		Imports: func() []string { return append(modules.Names(), l.names...) },
		Modules: modules.Names,
	})
	if err != nil {
		return nil, compileError(err)
	}
	return &program{Program: p}, nil
}
