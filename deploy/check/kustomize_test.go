package check_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const base = "../kustomize/base"

// TestKustomizeBase: the base is the chart's default rendering, a file each, and its kustomization names them all. -update writes it.
func TestKustomizeBase(t *testing.T) {
	want := map[string]string{}
	for _, o := range rendered(t, "") {
		name := strings.ToLower(fmt.Sprintf("%s-%s.yaml", o.at("kind"), o.at("metadata", "name")))
		want[name] = o.text
	}
	if *update {
		writeBase(t, want)
	}
	var k struct{ Resources []string }
	if err := yaml.Unmarshal(read(t, base+"/kustomization.yaml"), &k); err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(k.Resources, names) {
		t.Errorf("kustomization.yaml names %q, want %q", k.Resources, names)
	}
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(base, name)); err != nil || string(got) != text {
			t.Errorf("%s is not what the chart renders (%v): run `make chart-quick UPDATE=-update`", name, err)
		}
	}
}

func writeBase(t *testing.T, files map[string]string) {
	t.Helper()
	old, err := filepath.Glob(base + "/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	list := "# Written by `make chart-quick UPDATE=-update` from the chart's default rendering; a test compares them.\n" +
		"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n"
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list += "  - " + name + "\n"
		write(t, filepath.Join(base, name), files[name])
	}
	write(t, base+"/kustomization.yaml", list)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
