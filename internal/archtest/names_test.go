package archtest

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// vague names say nothing about what is inside, and so everything ends up there.
var vague = []string{"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "shared"}

func TestNames(t *testing.T) {
	report(t, checkNames(house(t)))
}

func TestPackageComments(t *testing.T) {
	report(t, checkPackageComments(house(t)))
}

func checkNames(folders []*folder) []string {
	var findings []string
	for _, f := range folders {
		names := []string{path.Base(f.path)}
		for _, file := range slices.Concat(f.sources, f.tests) {
			names = append(names, strings.TrimSuffix(file.Name.Name, "_test"))
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if slices.Contains(vague, name) {
				findings = append(findings, fmt.Sprintf("%s: the name %q says nothing: name the package for what it provides",
					f.path, name))
			}
		}
	}
	return findings
}

func checkPackageComments(folders []*folder) []string {
	var findings []string
	for _, f := range folders {
		files := f.sources
		if len(files) == 0 {
			files = f.tests
		}
		if !slices.ContainsFunc(files, introduces) {
			findings = append(findings, fmt.Sprintf("%s: no package comment: say above the package line of one file what "+
				"the package is, what it promises, and where to begin", f.path))
		}
	}
	return findings
}

// introduces says whether a file has a comment above its package line that begins as Go's convention has it.
func introduces(file *ast.File) bool {
	text := file.Doc.Text()
	return strings.HasPrefix(text, "Package ") || file.Name.Name == "main" && text != ""
}

func TestCheckNames(t *testing.T) {
	expect(t, checkNames(load(t, fstest.MapFS{"worker/a.go": {Data: []byte("package worker")}})), "")
	expect(t, checkNames(load(t, fstest.MapFS{"worker/util/a.go": {Data: []byte("package util")}})), `worker/util: the name "util"`)
	expect(t, checkNames(load(t, fstest.MapFS{"worker/a_test.go": {Data: []byte("package common_test")}})), `the name "common"`)
}

func TestCheckPackageComments(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"comment", "// Package worker works.\npackage worker", ""},
		{"command", "// Thence runs.\npackage main", ""},
		{"none", "package worker", "worker: no package comment"},
		{"a comment of something else", "// license\n\npackage worker", "no package comment"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expect(t, checkPackageComments(load(t, fstest.MapFS{"worker/a.go": {Data: []byte(test.text)}})), test.want)
		})
	}
}
