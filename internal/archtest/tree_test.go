package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/thence-dev/thence"

// folder is a folder with Go files.
type folder struct {
	path    string // from the module's root, with slashes; "." is the root itself
	sources []*ast.File
	tests   []*ast.File
}

// house reads the module that these tests are part of.
func house(t *testing.T) []*folder {
	t.Helper()
	return load(t, os.DirFS("../.."))
}

// load reads every folder with Go files below a module's root, in the order of their paths.
func load(t *testing.T, root fs.FS) []*folder {
	t.Helper()
	found := make(map[string]*folder)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return enter(root, name)
		}
		if path.Ext(name) != ".go" || strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") {
			return nil
		}
		return add(found, root, name)
	})
	if err != nil {
		t.Fatalf("read the source: %v", err)
	}
	folders := make([]*folder, 0, len(found))
	for _, f := range found {
		folders = append(folders, f)
	}
	slices.SortFunc(folders, func(a, b *folder) int { return strings.Compare(a.path, b.path) })
	return folders
}

// enter skips the folders that are not part of the house.
func enter(root fs.FS, name string) error {
	base := path.Base(name)
	if name == "." {
		return nil
	}
	_, err := fs.Stat(root, path.Join(name, "go.mod"))
	if err == nil || base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	return nil
}

// add parses one file into its folder.
func add(found map[string]*folder, root fs.FS, name string) error {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	f := found[dir]
	if f == nil {
		f = &folder{path: dir}
		found[dir] = f
	}
	if strings.HasSuffix(name, "_test.go") {
		f.tests = append(f.tests, file)
	} else {
		f.sources = append(f.sources, file)
	}
	return nil
}

// imports returns the import paths of some files, sorted, each once.
func imports(files []*ast.File) []string {
	var paths []string
	for _, file := range files {
		for _, spec := range file.Imports {
			paths = append(paths, strings.Trim(spec.Path.Value, "\"`"))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// inHouse returns the folder of an import path of this module.
func inHouse(importPath string) (string, bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// report fails the test once for each finding.
func report(t *testing.T, findings []string) {
	t.Helper()
	for _, finding := range findings {
		t.Error(finding)
	}
}
