package check_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestScriptsArePushedOnce: a job pushes a pool's scripts, and its workers do not; where there is no job, they do.
func TestScriptsArePushedOnce(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		values := readValues(t, "testdata/full.yaml")
		values["init"] = map[string]any{"enabled": enabled}
		manifests, _, err := render(values)
		if err != nil {
			t.Fatal(err)
		}
		pools, pushing := map[string]bool{}, 0
		for _, o := range objects(t, manifests) {
			pod := object{fields: map[string]any{}}
			if kind := o.at("kind"); kind == "Job" || kind == "Deployment" {
				pod.fields = o.at("spec", "template", "spec").(map[string]any)
			}
			for _, c := range list(pod.fields["containers"]) {
				args := strings.Fields(strings.Trim(fmt.Sprint(c["args"]), "[]"))
				switch {
				case slices.Contains(args, "--scripts=/etc/thence/scripts"):
					pushing++
				case len(args) > 3 && args[0] == "scripts" && args[1] == "push" && args[3] == "/etc/thence/scripts":
					pools[args[2]] = true
					if hook := o.at("metadata", "annotations", "helm.sh/hook"); hook != "post-install,post-upgrade,post-rollback" {
						t.Errorf("%s is the hook %v", o, hook)
					}
				}
			}
		}
		if enabled != (len(pools) == 2 && pools["payments"] && pools["ledger"]) || enabled == (pushing == 2) {
			t.Errorf("init.enabled %v: jobs push to %v, and %d workers push", enabled, pools, pushing)
		}
	}
}
