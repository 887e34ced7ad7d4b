package check_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// described are the metrics that docs/operations.md names; a test beside it compares them with a running worker's.
func described(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, m := range regexp.MustCompile("`(thence_[a-z_]+)`").FindAllSubmatch(read(t, "../../docs/operations.md"), -1) {
		names[string(m[1])] = true
	}
	if len(names) < 20 {
		t.Fatalf("the page names %d metrics", len(names))
	}
	return names
}

// checkQuery parses a query, and checks that workers have the metrics it asks for.
func checkQuery(t *testing.T, where, query string, known map[string]bool) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v in %s", where, err, query)
		return
	}
	for _, selectors := range parser.ExtractSelectors(expr) {
		for _, m := range selectors {
			if m.Name != model.MetricNameLabel {
				continue
			}
			name := m.Value
			for _, part := range []string{"_bucket", "_sum", "_count"} { // of a histogram
				name = strings.TrimSuffix(name, part)
			}
			if !known[name] {
				t.Errorf("%s asks for %s, which docs/operations.md does not name", where, name)
			}
		}
	}
}

// TestAlerts: each rule has a query that Prometheus can read, of metrics that there are, and tells people what is up.
func TestAlerts(t *testing.T) {
	var rules struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(read(t, chart+"/files/alerts.yaml"), &rules); err != nil {
		t.Fatal(err)
	}
	known, seen := described(t), map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			checkQuery(t, r.Alert, r.Expr, known)
			if seen[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s is there twice, or lacks a severity, a summary or a description", r.Alert)
			}
			seen[r.Alert] = true
		}
	}
	for _, want := range []string{
		"ThenceBacklogGrows", "ThenceDeadLetters", "ThenceServicePaused", "ThenceCommitConflicts", "ThenceSandboxKills", "ThenceNoWorker",
	} {
		if !seen[want] {
			t.Errorf("there is no alert %s", want)
		}
	}
}

// TestDashboard: each panel's queries are ones that Prometheus can read, of metrics that there are.
func TestDashboard(t *testing.T) {
	var board struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, chart+"/files/dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	known, ids := described(t), map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: its id is another's, or it shows nothing", p.ID, p.Title)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			checkQuery(t, p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), known)
		}
	}
	if len(ids) < 10 {
		t.Errorf("the dashboard has %d panels", len(ids))
	}
}
