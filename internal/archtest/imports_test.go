package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// row says what the packages of a folder may import of this module, outside of tests. Tests may import more, but cmd.
// A name that ends in /... stands for the folder and all below it; the longest that fits a folder is its row.
type row struct {
	folder string
	may    []string // "..." is everything, but cmd
	std    bool     // of what is not ours, the standard library only
}

// Data goes round one way: dispatcher, stream, worker, scripting, effects, stream. A new folder gets a row here, with
// the reason in docs/adr if it is not plain from the name. A row for a folder that does not exist is fine.
var table = []row{
	{folder: "internal/job", std: true},
	{folder: "internal/crash", std: true},
	{folder: "internal/stream", may: []string{"internal/job"}},
	{folder: "internal/operator", may: []string{"internal/stream", "internal/job"}},
	{folder: "internal/doctor", may: []string{"internal/stream", "internal/job"}},
	{folder: "internal/monitor", may: []string{"internal/stream", "internal/job", "scripting/sandbox"}},
	{folder: "internal/embedded"},
	{folder: "internal/simulation", may: []string{"internal/stream", "internal/job"}},
	{folder: "internal/stripefake", std: true},
	{folder: "internal/archtest", std: true},

	{folder: "dispatcher", may: []string{"internal/stream", "internal/job"}},
	{folder: "scripting/...", may: []string{"scripting/..."}},
	{folder: "worker", may: []string{"internal/stream", "internal/job", "internal/crash", "scripting", "scripting/sandbox", "worker/calls"}},
	{folder: "worker/calls", may: []string{"internal/stream", "internal/job", "internal/crash"}},
	{folder: "worker/servicefile", may: []string{"worker/calls"}},
	{folder: "flows"},

	// What users test their flows with: it runs a whole pool, and so meets dispatcher and worker, which never meet else.
	{folder: "thencetest", may: []string{"dispatcher", "worker", "scripting", "flows", "internal/stream", "internal/job", "internal/embedded", "internal/stripefake"}},

	{folder: "cmd/...", may: []string{"..."}},
	{folder: "integration_test", may: []string{"..."}},
	{folder: "integration_test/gauntlet", may: []string{"..."}}, // a test program, no part of what is shipped
	{folder: "integration_test/gauntlet/wire"},
	{folder: "integration_test/gauntlet/disk", std: true},
	{folder: "integration_test/gauntlet/netns", std: true},
	{folder: "bench", may: []string{"..."}},
}

func TestImports(t *testing.T) {
	report(t, checkImports(house(t), table))
}

func checkImports(folders []*folder, table []row) []string {
	var findings []string
	for _, f := range folders {
		row, ok := rowOf(f.path, table)
		if !ok {
			findings = append(findings, fmt.Sprintf("%s: not in the table: add a row that says what it may import "+
				"(internal/archtest/imports_test.go)", f.path))
			continue
		}
		for _, path := range imports(f.sources) {
			if reason := row.refuses(path); reason != "" {
				findings = append(findings, fmt.Sprintf("%s: imports %s: %s", f.path, path, reason))
			}
		}
		for _, path := range imports(f.tests) {
			if target, ours := inHouse(path); ours && covers("cmd/...", target) && target != f.path {
				findings = append(findings, fmt.Sprintf("%s: a test imports %s: nobody imports cmd; move what it needs "+
					"into a package", f.path, path))
			}
		}
	}
	return findings
}

// rowOf finds a folder's row: the longest name that covers it.
func rowOf(folder string, table []row) (row, bool) {
	var best row
	for _, r := range table {
		if covers(r.folder, folder) && len(r.folder) > len(best.folder) {
			best = r
		}
	}
	return best, best.folder != ""
}

// covers says whether a name of the table stands for a folder.
func covers(name, folder string) bool {
	if name == "..." {
		return true
	}
	if base, all := strings.CutSuffix(name, "/..."); all {
		return folder == base || strings.HasPrefix(folder, base+"/")
	}
	return name == folder
}

// refuses says why a folder of this row must not import a path, or "".
func (r row) refuses(path string) string {
	target, ours := inHouse(path)
	switch {
	case !ours && r.std && strings.Contains(strings.SplitN(path, "/", 2)[0], "."):
		return "this package uses the standard library only; move the code that needs it to the room that wraps it"
	case !ours:
		return ""
	case covers("cmd/...", target):
		return "nobody imports cmd; move what it needs into a package"
	case slices.ContainsFunc(r.may, func(name string) bool { return covers(name, target) }):
		return ""
	case len(r.may) == 0:
		return "it may import nothing of this module; pass in what it needs"
	}
	return fmt.Sprintf("of this module it may import only %s; pass in what it needs, or move the code to the room that has it",
		strings.Join(r.may, ", "))
}

func TestCheckImports(t *testing.T) {
	for _, test := range []struct {
		name, file, text string
		want             string // part of the only finding; empty: none
	}{
		{"allowed", "worker/a.go", `package worker; import _ "github.com/thence-dev/thence/worker/calls"`, ""},
		{"below scripting", "scripting/x/a.go", `package x; import _ "github.com/thence-dev/thence/scripting/y"`, ""},
		{"anything", "bench/a_test.go", `package bench; import _ "github.com/thence-dev/thence/worker"`, ""},
		{"of others", "worker/a.go", `package worker; import _ "github.com/nats-io/nats.go"`, ""},
		{"a test", "worker/a_test.go", `package worker; import _ "github.com/thence-dev/thence/internal/embedded"`, ""},
		{"not in the table", "console/a.go", `package console`, "console: not in the table"},
		{"the root", "a.go", `package thence`, ".: not in the table"},
		{"across", "worker/a.go", `package worker; import _ "github.com/thence-dev/thence/dispatcher"`, "of this module it may import only internal/stream"},
		{"back", "dispatcher/a.go", `package dispatcher; import _ "github.com/thence-dev/thence/worker"`, "dispatcher: imports"},
		{"below worker", "worker/calls/a.go", `package calls; import _ "github.com/thence-dev/thence/scripting"`, "worker/calls: imports"},
		{"nothing", "flows/a.go", `package flows; import _ "github.com/thence-dev/thence/scripting"`, "may import nothing"},
		{"standard library", "internal/job/a.go", `package job; import _ "github.com/google/uuid"`, "standard library only"},
		{"cmd", "bench/a.go", `package bench; import _ "github.com/thence-dev/thence/cmd/thence"`, "nobody imports cmd"},
		{"cmd by a test", "worker/a_test.go", `package worker; import _ "github.com/thence-dev/thence/cmd/thence"`, "nobody imports cmd"},
		{"the root by name", "worker/a.go", `package worker; import _ "github.com/thence-dev/thence"`, "worker: imports"},
		{"no part of the house", "worker/testdata/a.go", `package worker; import _ "github.com/thence-dev/thence/dispatcher"`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := fstest.MapFS{test.file: {Data: []byte(test.text)}}
			expect(t, checkImports(load(t, root), table), test.want)
		})
	}
}

// expect checks that there is one finding, with this text in it, or none when the text is empty.
func expect(t *testing.T, findings []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(findings) > 0:
		t.Errorf("got %q, want no finding", findings)
	case want != "" && (len(findings) != 1 || !strings.Contains(findings[0], want)):
		t.Errorf("got %q, want one finding with %q", findings, want)
	}
}
