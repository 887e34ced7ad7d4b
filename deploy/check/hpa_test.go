package check_test

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestAdapter: the metric that autoscalers ask for is the one that prometheus-adapter is told to make, of metrics that
// workers have, by the query that `make alerts` tries.
func TestAdapter(t *testing.T) {
	var values struct {
		Rules struct {
			External []struct {
				SeriesQuery  string `json:"seriesQuery"`
				MetricsQuery string `json:"metricsQuery"`
				Resources    any    `json:"resources"`
				Name         struct {
					As string `json:"as"`
				} `json:"name"`
			} `json:"external"`
		} `json:"rules"`
	}
	const file = chart + "/files/prometheus-adapter.yaml"
	if err := yaml.UnmarshalStrict(read(t, file), &values); err != nil || len(values.Rules.External) != 1 {
		t.Fatalf("%s: %v, %d rules", file, err, len(values.Rules.External))
	}
	rule := values.Rules.External[0]
	query := strings.ReplaceAll(rule.MetricsQuery, "<<.LabelMatchers>>", `namespace="thence",pool="payments"`)
	known := described(t)
	checkQuery(t, file, rule.SeriesQuery, known)
	checkQuery(t, file, query, known)
	if !strings.Contains(string(read(t, "rules/hpa.yaml")), "expr: '"+query+"'\n") {
		t.Errorf("rules/hpa.yaml tries another query than %s", query)
	}
	asked := map[any]any{}
	for _, o := range rendered(t, "testdata/hpa.yaml") {
		for _, m := range list(o.at("spec", "metrics")) {
			external := object{fields: m}
			if external.at("type") != "External" {
				continue
			}
			asked[external.at("external", "metric", "selector", "matchLabels", "pool")] = external.at("external", "target", "averageValue")
			if got := external.at("external", "metric", "name"); got != rule.Name.As {
				t.Errorf("%s asks for %v, and %s makes %s", o, got, file, rule.Name.As)
			}
		}
	}
	if len(asked) != 2 || asked["both"] != "100" || asked["jobs"] != "50" {
		t.Errorf("autoscalers ask for %v", asked)
	}
}
