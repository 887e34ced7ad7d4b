// Package check_test holds what deploy/ must keep to: the chart renders, for all of its values, objects that the API of
// Kubernetes, KEDA and the Prometheus operator have, field by field; the kustomize base is the chart's default
// rendering; the chart's README names all values; and alert rules and dashboard ask for metrics that workers have.
//
// It is a module of its own, as what it checks with is no part of Thence. `make chart-quick` renders with Helm's packages
// in this process; `make chart` builds the program helm as well, and runs those tests that need it: their names begin with TestHelm.
package check_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var (
	helm   = flag.String("helm", "", "path of helm; `make chart` builds it")
	thence = flag.String("thence", "", "path of thence; `make chart-quick` builds it")
	update = flag.Bool("update", false, "write deploy/kustomize/base anew")
)

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
