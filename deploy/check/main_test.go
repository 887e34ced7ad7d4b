// Package check_test holds what deploy/ must keep to: the chart renders, for all of its values, objects that the API of
// Kubernetes, KEDA and the Prometheus operator have, field by field; the kustomize base is the chart's default
// rendering; the chart's README names all values; and alert rules and dashboard ask for metrics that workers have.
//
// It is a module of its own, as what it checks with is no part of Thence. `make chart` builds helm and runs it.
package check_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	helm   = flag.String("helm", "", "path of helm; `make chart` builds it")
	thence = flag.String("thence", "", "path of thence; `make chart` builds it")
	update = flag.Bool("update", false, "write deploy/kustomize/base anew")
)

const chart = "../helm/thence"

// runHelm returns what helm printed, and whether it succeeded.
func runHelm(t *testing.T, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	if *helm == "" {
		t.Fatal("where is helm? run `make chart`, or give the test -helm PATH")
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

// object is a Kubernetes object as it was rendered.
type object struct {
	text   string // YAML
	fields map[string]any
}

func (o object) String() string {
	return fmt.Sprintf("%s %s %s", o.at("apiVersion"), o.at("kind"), o.at("metadata", "name"))
}

// at is a field by its path; nil if it is not there.
func (o object) at(path ...string) any {
	var v any = o.fields
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

// objects reads a stream of YAML documents, strictly: no key twice.
func objects(t *testing.T, text string) []object {
	t.Helper()
	var all []object
	for _, part := range strings.Split("\n"+text, "\n---") {
		var fields map[string]any
		raw, err := yaml.YAMLToJSONStrict([]byte(part))
		if err != nil {
			t.Fatalf("%v in\n%s", err, part)
		}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&fields); err != nil {
			t.Fatal(err)
		}
		if fields != nil {
			all = append(all, object{strings.TrimSpace(part) + "\n", fields})
		}
	}
	return all
}
