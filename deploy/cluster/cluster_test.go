package cluster_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CRDs that the chart's optional objects need, from the modules of their makers.
var definitions = []struct{ module, files string }{
	{"github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/*.yaml"},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/*.yaml"},
}

// TestCluster applies the chart, the base and the page's commands, one after the other, to one control plane.
func TestCluster(t *testing.T) {
	c := start(t)
	c.define(t)
	c.run(t, "kubectl", "create", "priorityclass", "high", "--value=1000")
	t.Run("restricted", c.testRestricted)
	for _, file := range append(c.valuesFiles(t), "") {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if file == "" {
			name = "defaults"
		}
		t.Run(name, func(t *testing.T) { c.testValues(t, name, file) })
	}
	t.Run("release", c.testRelease)
	t.Run("base", c.testBase)
	t.Run("page", c.testPage)
}

// valuesFiles are those of deploy/check.
func (c *cluster) valuesFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.root, "deploy", "check", "testdata", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of values, %v", len(files), err)
	}
	return files
}

// define applies the custom resource definitions.
func (c *cluster) define(t *testing.T) {
	t.Helper()
	for _, d := range definitions {
		files, err := filepath.Glob(filepath.Join(download(t, d.module), d.files))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no %s: %v", d.module, d.files, err)
		}
		for _, file := range files {
			if filepath.Base(file) != "kustomization.yaml" {
				c.run(t, "kubectl", "apply", "--server-side", "-f", file)
			}
		}
	}
	c.run(t, "kubectl", "wait", "--for=condition=Established", "--timeout="+patience.String(), "crd", "--all")
}

// namespace makes one that admits pods of the restricted standard alone.
func (c *cluster) namespace(t *testing.T, name string) {
	t.Helper()
	c.run(t, "kubectl", "create", "namespace", name)
	c.run(t, "kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/enforce-version=latest")
}

// testRestricted: such a namespace refuses a pod that says nothing about its security, so what it admits later has been looked at.
func (c *cluster) testRestricted(t *testing.T) {
	c.namespace(t, "strict")
	c.awaitAccount(t, "strict", "default")
	out, err := c.try(t, "", "kubectl", "-n", "strict", "run", "careless", "--image=example/careless")
	if err == nil || !strings.Contains(out, `violates PodSecurity "restricted:latest"`) {
		t.Errorf("a careless pod: %v, %s", err, out)
	}
}

// testValues installs the chart with a file of values, after the server has looked at all of its objects strictly.
func (c *cluster) testValues(t *testing.T, namespace, file string) {
	c.namespace(t, namespace)
	c.awaitAccount(t, namespace, "default")
	c.run(t, "kubectl", "-n", namespace, "create", "serviceaccount", "mine") // one of the files wants its own
	values := []string{}
	if file != "" {
		values = append(values, "--values", file)
	}
	manifests := c.run(t, "helm", append([]string{"template", "thence", "deploy/helm/thence", "--namespace", namespace}, values...)...)
	if out, err := c.try(t, manifests, "kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
		t.Fatalf("the server refuses: %v\n%s", err, out)
	}
	c.run(t, "helm", append([]string{"install", "thence", "deploy/helm/thence", "--namespace", namespace, "--wait", "--timeout", patience.String()}, values...)...)
	c.awaitRollouts(t, namespace)
	c.uninstall(t, namespace)
}

// testRelease upgrades a release and rolls it back.
func (c *cluster) testRelease(t *testing.T) {
	c.namespace(t, "release")
	helm := func(words ...string) {
		c.run(t, "helm", append(words, "--namespace", "release", "--wait", "--timeout", patience.String())...)
		c.awaitRollouts(t, "release")
	}
	helm("install", "thence", "deploy/helm/thence")
	before := c.podArgs(t)
	helm("upgrade", "thence", "deploy/helm/thence", "--set", "poolDefaults.graceSeconds=42,poolDefaults.replicas=3")
	upgraded := c.podArgs(t)
	if n := strings.Count(upgraded, "--grace=42s"); n != 3 || strings.Contains(upgraded, "--grace=20s") {
		t.Errorf("after the upgrade the pods have\n%s", upgraded)
	}
	helm("rollback", "thence")
	if after := c.podArgs(t); after != before || strings.Count(after, "--grace=20s") != 2 {
		t.Errorf("after the rollback the pods have\n%s\nand had\n%s", after, before)
	}
	c.uninstall(t, "release")
}

// podArgs are the arguments of the workers of namespace release, a line each, when all of its pods are there and none is going.
func (c *cluster) podArgs(t *testing.T) string {
	t.Helper()
	var out string
	eventually(t, "the old pods go", func() error {
		out = c.run(t, "kubectl", "-n", "release", "get", "pods", "-l", "app.kubernetes.io/component=worker",
			"-o", `jsonpath={range .items[*]}{.metadata.deletionTimestamp}{.status.phase}{.spec.containers[0].args}{"\n"}{end}`)
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "Running") {
				return fmt.Errorf("pods: %s", out)
			}
		}
		return nil
	})
	return out
}

// testBase applies the kustomize base as it is; to apply it again may change nothing.
func (c *cluster) testBase(t *testing.T) {
	c.namespace(t, "thence")
	c.run(t, "kubectl", "apply", "-k", "deploy/kustomize/base")
	c.run(t, "kubectl", "-n", "thence", "wait", "--for=condition=Complete", "--timeout="+patience.String(), "job", "--all")
	c.awaitRollouts(t, "thence")
	c.run(t, "kubectl", "diff", "-k", "deploy/kustomize/base") // fails where a second apply would change something
	c.run(t, "kubectl", "delete", "-k", "deploy/kustomize/base", "--wait", "--timeout="+patience.String())
	c.run(t, "kubectl", "delete", "namespace", "thence", "--timeout="+patience.String())
}

// awaitRollouts waits until each Deployment has the pods that it wants, and checks that these run, spread over the nodes.
func (c *cluster) awaitRollouts(t *testing.T, namespace string) {
	t.Helper()
	names := strings.Fields(c.run(t, "kubectl", "-n", namespace, "get", "deployments", "-o", "name"))
	if len(names) == 0 {
		t.Fatalf("no Deployment in %s", namespace)
	}
	for _, name := range names {
		c.run(t, "kubectl", "-n", namespace, "rollout", "status", name, "--timeout="+patience.String())
		want := c.run(t, "kubectl", "-n", namespace, "get", name, "-o", "jsonpath={.spec.replicas}")
		ready := c.run(t, "kubectl", "-n", namespace, "get", name, "-o", "jsonpath={.status.readyReplicas}")
		if want != ready || want == "0" {
			t.Errorf("%s in %s: %s workers are ready, want %s", name, namespace, ready, want)
		}
	}
}

// uninstall removes the release and checks that it has left nothing.
func (c *cluster) uninstall(t *testing.T, namespace string) {
	t.Helper()
	c.run(t, "helm", "uninstall", "thence", "--namespace", namespace, "--wait", "--timeout", patience.String())
	kinds := "deployments,replicasets,pods,jobs,configmaps,serviceaccounts,networkpolicies,poddisruptionbudgets," +
		"horizontalpodautoscalers,scaledobjects,podmonitors,prometheusrules"
	eventually(t, "nothing is left", func() error {
		if out := c.run(t, "kubectl", "-n", namespace, "get", kinds, "-l", "app.kubernetes.io/instance=thence", "-o", "name"); out != "" {
			return fmt.Errorf("left: %s", out)
		}
		return nil
	})
}

// awaitAccount waits for a ServiceAccount that the controller manager makes.
func (c *cluster) awaitAccount(t *testing.T, namespace, name string) {
	t.Helper()
	c.run(t, "kubectl", "-n", namespace, "wait", "--for=create", "--timeout="+patience.String(), "serviceaccount/"+name)
}

// download is the folder of a module, which Go fetches and verifies.
func download(t *testing.T, module string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir() // in no module
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fetch %s: %v", module, err)
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	return got.Dir
}
