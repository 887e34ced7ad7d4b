package check_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// The modules that bring the schemas with them, of which nothing else is used. The Go module proxy has them.
const (
	kubernetes = "k8s.io/kubernetes@v1.37.2"
	keda       = "github.com/kedacore/keda/v2@v2.21.0"
	operator   = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
)

// schemas are those of the API objects, by "apiVersion kind". They are strict: a field that a type does not have is an error.
var schemas = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	found := map[string]*jsonschema.Schema{}
	if err := kubernetesSchemas(found); err != nil {
		return nil, err
	}
	for _, crds := range []struct{ module, files string }{
		{keda, "config/crd/bases/keda.sh_scaledobjects.yaml"},
		{operator, "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"},
		{operator, "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"},
	} {
		if err := customSchemas(found, crds.module, crds.files); err != nil {
			return nil, err
		}
	}
	return found, nil
})

// validate checks objects by their schemas.
func validate(t *testing.T, all []object) {
	t.Helper()
	known, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		schema := known[fmt.Sprintf("%s %s", o.at("apiVersion"), o.at("kind"))]
		if schema == nil {
			t.Errorf("%s: Kubernetes has no such kind", o)
			continue
		}
		if err := schema.Validate(o.fields); err != nil {
			t.Errorf("%s: %v\n%s", o, err, o.text)
		}
	}
}

// moduleFile reads a file of a module, which Go fetches and verifies.
func moduleFile(module, file string) ([]byte, error) {
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir() // in no module
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", module, err)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(got.Dir, file))
}

// kubernetesSchemas takes the API's own OpenAPI document.
func kubernetesSchemas(found map[string]*jsonschema.Schema) error {
	raw, err := moduleFile(kubernetes, "api/openapi-spec/swagger.json")
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	definitions := document.(map[string]any)["definitions"].(map[string]any)
	for name, d := range definitions {
		strict(d)
		switch { // what the document calls a string, and may be a number
		case strings.HasSuffix(name, ".util.intstr.IntOrString"), strings.HasSuffix(name, ".api.resource.Quantity"):
			definitions[name] = map[string]any{"type": []any{"string", "number"}}
		}
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("k8s.json", map[string]any{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": definitions}); err != nil {
		return err
	}
	for name, d := range definitions {
		kinds, _ := d.(map[string]any)["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // none, or a list's options
			continue
		}
		k := kinds[0].(map[string]any)
		version := k["version"].(string)
		if group := k["group"].(string); group != "" {
			version = group + "/" + version
		}
		schema, err := c.Compile("k8s.json#/definitions/" + name)
		if err != nil {
			return err
		}
		found[version+" "+k["kind"].(string)] = schema
	}
	return nil
}

// customSchemas takes the schemas of a custom resource definition.
func customSchemas(found map[string]*jsonschema.Schema, module, file string) error {
	raw, err := moduleFile(module, file)
	if err != nil {
		return err
	}
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema map[string]any }
			}
		}
	}
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, v := range crd.Spec.Versions {
		schema := v.Schema.OpenAPIV3Schema
		strict(schema)
		schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
		name := crd.Spec.Names.Kind + ".json"
		c := jsonschema.NewCompiler()
		if err := c.AddResource(name, schema); err != nil {
			return err
		}
		compiled, err := c.Compile(name)
		if err != nil {
			return err
		}
		found[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.Kind] = compiled
	}
	return nil
}

// strict makes a schema refuse fields that it does not name, wherever it does not say that there may be others.
func strict(v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, child := range v {
			strict(child)
		}
		_, isObject := v["properties"].(map[string]any)
		if _, said := v["additionalProperties"]; isObject && !said && v["type"] == "object" && v["x-kubernetes-preserve-unknown-fields"] != true {
			v["additionalProperties"] = false
		}
		if v["x-kubernetes-int-or-string"] == true {
			delete(v, "type")
		}
	case []any:
		for _, child := range v {
			strict(child)
		}
	}
}

// TestSchemasAreStrict: a mistake is found.
func TestSchemasAreStrict(t *testing.T) {
	known, err := schemas()
	if err != nil {
		t.Fatal(err)
	}
	for kind, mistake := range map[string]string{
		"apps/v1 Deployment":                      `{"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"selector": {}, "template": {}, "replica": 2}}`,
		"policy/v1 PodDisruptionBudget":           `{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"maxUnavailable": []}}`,
		"batch/v1 Job":                            `{"apiVersion": "batch/v1", "kind": "Job", "spec": {"backoffLimit": "6", "template": {}}}`,
		"keda.sh/v1alpha1 ScaledObject":           `{"spec": {"scaleTargetRef": {"nam": "x"}, "triggers": []}}`,
		"monitoring.coreos.com/v1 PrometheusRule": `{"spec": {"groups": [{"name": "x", "rule": []}]}}`,
		"monitoring.coreos.com/v1 PodMonitor":     `{"spec": {"selector": {}, "podMetricsEndpoint": []}}`,
		"networking.k8s.io/v1 NetworkPolicy":      `{"spec": {"podSelector": {}, "egress": [{"ports": [{"ports": 1}]}]}}`,
		"autoscaling/v2 HorizontalPodAutoscaler":  `{"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "x"}, "maxReplicas": "10"}}`,
		"v1 ServiceAccount":                       `{"automountServiceAccountToken": "no"}`,
		"v1 ConfigMap":                            `{"data": {"a": 1}}`,
	} {
		if known[kind] == nil {
			t.Errorf("there is no schema of %s", kind)
			continue
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(mistake))
		if err != nil {
			t.Fatal(err)
		}
		if known[kind].Validate(value) == nil {
			t.Errorf("%s: nothing is found wrong with %s", kind, mistake)
		}
	}
}
