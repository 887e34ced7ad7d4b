package check_test

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runHelm returns what helm printed, and whether it succeeded.
func runHelm(t *testing.T, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	if *helm == "" {
		t.Fatal("where is helm? run `make chart`, or give the test -helm PATH, or leave it out with -skip '^TestHelm'")
	}
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), *helm, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), err == nil
}

// TestHelm: the program lints the chart without a warning, and renders what the other tests look at.
func TestHelm(t *testing.T) {
	for _, file := range valuesFiles(t) {
		var values []string
		if file != "" {
			values = []string{"--values", file}
		}
		if out, errs, ok := runHelm(t, append([]string{"lint", "--strict", chart}, values...)...); !ok {
			t.Errorf("helm lint %s:\n%s%s", values, out, errs)
		}
		got, errs, ok := runHelm(t, append([]string{"template", "thence", chart, "--namespace", "thence"}, values...)...)
		if !ok {
			t.Fatalf("helm template %s:\n%s", values, errs)
		}
		if program, packages := texts(objects(t, got)), texts(rendered(t, file)); !slices.Equal(program, packages) {
			t.Errorf("helm template %s printed\n%s\nand its packages render\n%s", values, program, packages)
		}
	}
}

func texts(all []object) []string {
	var texts []string
	for _, o := range all {
		texts = append(texts, o.text)
	}
	return texts
}

// TestHelmRefuses: the program refuses values that the schema does not allow, and says which.
func TestHelmRefuses(t *testing.T) {
	if out, errs, ok := runHelm(t, "template", "thence", chart, "--set", "nats.URL=nats://x"); ok || !strings.Contains(errs, "URL") {
		t.Errorf("got %s%s, want an error that names nats.URL", out, errs)
	}
}

// TestHelmKnowsPage: helm knows the flags of its commands in docs/kubernetes.md.
func TestHelmKnowsPage(t *testing.T) {
	commands := regexp.MustCompile("(?m)^helm (.*)$").FindAllStringSubmatch(string(read(t, "../../docs/kubernetes.md")), -1)
	if len(commands) < 3 {
		t.Fatalf("the page has %d commands of helm", len(commands))
	}
	for _, c := range commands {
		if out, errs, ok := runHelm(t, append(strings.Fields(c[1]), "--help")...); !ok {
			t.Errorf("%s: %s%s", c[0], out, errs)
		}
	}
}
