package check_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// TestChart renders the chart with each file of values in testdata, and with its defaults.
func TestChart(t *testing.T) {
	for _, file := range valuesFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(cmp.Or(file, "defaults")), ".yaml"), func(t *testing.T) {
			lintChart(t, readValues(t, file))
			if _, notes, err := render(readValues(t, file)); err != nil || !strings.Contains(notes, "rollout status deployment/thence-") {
				t.Errorf("the notes name no Deployment (%v):\n%s", err, notes)
			}
			all := rendered(t, file)
			validate(t, all)
			checkPods(t, all)
			checkNames(t, all)
		})
	}
}

// lintChart does what `helm lint --strict` does.
func lintChart(t *testing.T, values map[string]any) {
	t.Helper()
	for _, m := range lint.RunAll(chart, values, "thence").Messages {
		if m.Severity >= support.WarningSev {
			t.Errorf("helm lint: %v", m)
		}
	}
}

// checkPods checks what the schemas can't: that pods are as the restricted pod security standard wants them, that they
// are given longer than their grace to stop, and that what they mount is there.
func checkPods(t *testing.T, all []object) {
	t.Helper()
	for _, o := range all {
		kind := o.at("kind")
		if kind != "Deployment" && kind != "Job" {
			continue
		}
		pod := o.at("spec", "template", "spec")
		if o := (object{fields: pod.(map[string]any)}); o.at("securityContext", "runAsNonRoot") != true || o.at("securityContext", "seccompProfile", "type") != "RuntimeDefault" ||
			o.at("automountServiceAccountToken") != false {
			t.Errorf("%v: the pod is not restricted", o.fields)
		}
		c := object{fields: pod.(map[string]any)["containers"].([]any)[0].(map[string]any)}
		if fmt.Sprint(c.at("securityContext", "capabilities", "drop")) != "[ALL]" || c.at("securityContext", "allowPrivilegeEscalation") != false ||
			c.at("securityContext", "readOnlyRootFilesystem") != true || c.at("resources", "limits", "memory") == nil {
			t.Errorf("%s: the container is not restricted, or has no bound of memory", o)
		}
		var mounts, volumes []string
		for _, m := range list(c.at("volumeMounts")) {
			mounts = append(mounts, m["name"].(string))
		}
		for _, v := range list(pod.(map[string]any)["volumes"]) {
			volumes = append(volumes, v["name"].(string))
		}
		if slices.Sort(mounts); !slices.Equal(mounts, slices.Sorted(slices.Values(volumes))) {
			t.Errorf("%s mounts %q, and has the volumes %q", o, mounts, volumes)
		}
		if kind == "Deployment" {
			checkWorker(t, o, c)
		}
	}
}

func checkWorker(t *testing.T, o, container object) {
	t.Helper()
	var grace int
	for _, arg := range container.at("args").([]any) {
		_, _ = fmt.Sscanf(arg.(string), "--grace=%ds", &grace)
	}
	given, err := o.at("spec", "template", "spec", "terminationGracePeriodSeconds").(json.Number).Int64()
	if err != nil || grace == 0 || int(given) <= grace {
		t.Errorf("%s: a worker needs up to %d s to stop, and is killed after %d", o, grace, given)
	}
	labels := o.at("spec", "template", "metadata", "labels").(map[string]any)
	for name, want := range o.at("spec", "selector", "matchLabels").(map[string]any) {
		if labels[name] != want {
			t.Errorf("%s selects %s=%s, and its pods have %s", o, name, want, labels[name])
		}
	}
	for path, probe := range map[string]any{"/healthz": container.at("livenessProbe", "httpGet", "path"), "/readyz": container.at("readinessProbe", "httpGet", "path")} {
		if path != probe {
			t.Errorf("%s probes %v, want %s", o, probe, path)
		}
	}
}

func list(v any) []map[string]any {
	var all []map[string]any
	items, _ := v.([]any)
	for _, item := range items {
		all = append(all, item.(map[string]any))
	}
	return all
}

// checkNames checks that no two objects are the same, that ConfigMaps which are mounted are there, and that scalers
// scale a Deployment that does not fix its own number.
func checkNames(t *testing.T, all []object) {
	t.Helper()
	seen := map[string]object{}
	for _, o := range all {
		key := fmt.Sprintf("%s/%s", o.at("kind"), o.at("metadata", "name"))
		if _, twice := seen[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		if name := o.at("metadata", "name").(string); len(name) > 63 {
			t.Errorf("%s: the name has %d bytes, at most 63 are allowed", key, len(name))
		}
		seen[key] = o
	}
	for _, o := range seen {
		if kind := o.at("kind"); kind == "ScaledObject" || kind == "HorizontalPodAutoscaler" {
			target, ok := seen[fmt.Sprintf("Deployment/%s", o.at("spec", "scaleTargetRef", "name"))]
			if !ok || target.at("spec", "replicas") != nil {
				t.Errorf("%s scales %v, which is not there or has replicas of its own", o, o.at("spec", "scaleTargetRef", "name"))
			}
		}
	}
}

// TestChartRefuses: the schema refuses values that would not work, and says which.
func TestChartRefuses(t *testing.T) {
	for set, want := range map[string]string{
		"nats.URL=nats://x":                "URL",
		"nats.url=localhost":               "url",
		"pools[0].name=Pay_ments":          "name",
		"pools[0].slot=3":                  "slot",
		"pools[0].sandbox=yes":             "sandbox",
		"poolDefaults.graceSeconds=0":      "graceSeconds",
		"poolDefaults.limits.memry=1":      "memry",
		"pools=null":                       "pools",
		"image.digest=latest":              "digest",
		"poolDefaults.services.mail=false": "mail",
		"poolDefaults.storage.replicas=9":  "replicas",
		"pools[0].name=a,pools[1].name=a":  "a is there twice",
		"pools[0].name=a,poolDefaults.keda.enabled=true,poolDefaults.hpa.enabled=true":   "keda and hpa",
		"pools[0].name=a,pools[0].hpa.enabled=true,pools[0].hpa.cpuUtilization=0":        "cpuUtilization or jobsLag",
		"pools[0].name=a,pools[0].scripts.x=1x,pools[0].scriptsConfigMap=y":              "scriptsConfigMap",
		"pools[0].name=a,pools[0].services.x.url=https://x,pools[0].servicesConfigMap=y": "servicesConfigMap",
	} {
		values := map[string]any{}
		if err := strvals.ParseInto(set, values); err != nil {
			t.Fatal(err)
		}
		if out, _, err := render(values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--set %s: got %s, %v, want an error with %q", set, out, err, want)
		}
	}
}

// TestReadme: the chart's README has a row for each value, with its default, and no others.
func TestReadme(t *testing.T) {
	var values map[string]any
	if err := yaml.UnmarshalStrict(read(t, chart+"/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	flatten(t, want, "", values)
	got := map[string]string{}
	for line := range strings.Lines(string(read(t, chart+"/README.md"))) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
			continue
		}
		cell := func(i int) string { return strings.Trim(strings.TrimSpace(cells[i]), "`") }
		got[cell(1)] = cell(3)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if d, ok := got[name]; !ok || d != want[name] {
			t.Errorf("README.md: the default of %s is %q, want %q", name, d, want[name])
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("README.md has the value %s, and values.yaml has not", name)
	}
}

// flatten lists the values that can be set, by their path; an object that is passed on as it is counts as one.
func flatten(t *testing.T, into map[string]string, prefix string, values map[string]any) {
	t.Helper()
	for name, v := range values {
		m, isMap := v.(map[string]any)
		if isMap && len(m) > 0 && name != "resources" && name != "labels" {
			flatten(t, into, prefix+name+".", m)
			continue
		}
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		into[prefix+name] = string(encoded)
	}
}

// TestFlags: the program knows every flag that a pod gives it, and takes its value.
func TestFlags(t *testing.T) {
	if *thence == "" {
		t.Fatal("where is thence? run `make chart-quick`, or give the test -thence PATH")
	}
	for _, o := range rendered(t, "testdata/full.yaml") {
		for _, c := range list(o.at("spec", "template", "spec", "containers")) {
			var args []string
			for _, arg := range c["args"].([]any) {
				args = append(args, arg.(string))
			}
			out, err := exec.CommandContext(t.Context(), *thence, append(args, "--help")...).CombinedOutput()
			if err != nil || len(args) < 4 {
				t.Errorf("%s: thence %s: %v\n%s", o, strings.Join(args, " "), err, out)
			}
		}
	}
}
