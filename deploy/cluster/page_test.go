package cluster_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// elsewhere are the commands of the page that need what kwok does not have: a NATS and workers that run. The program's
// own tests run them.
var elsewhere = []string{"kubectl -n nats port-forward ", "thence submit ", "thence context get ", "thence doctor "}

// testPage runs the commands of docs/kubernetes.md in their order, in a folder with the files that the page speaks of.
func (c *cluster) testPage(t *testing.T) {
	page := read(t, filepath.Join(c.root, "docs", "kubernetes.md"))
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(c.root, "deploy"), filepath.Join(dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	values := regexp.MustCompile("(?s)```yaml values.yaml\n(.*?)```").FindStringSubmatch(page)
	if values == nil {
		t.Fatal("the page has no values.yaml")
	}
	write(t, filepath.Join(dir, "values.yaml"), values[1])
	for _, name := range []string{"setup.creds", "worker.creds"} {
		write(t, filepath.Join(dir, name), "a user's JWT and key")
	}
	ran := 0
	for _, command := range pageCommands(page) {
		if c.runOfPage(t, dir, command) {
			ran++
		}
	}
	if ran < 10 {
		t.Errorf("%d of the page's commands were run here", ran)
	}
}

func pageCommands(page string) []string {
	var all []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		all = append(all, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return all
}

// runOfPage runs one command, and reports whether it could be run here.
func (c *cluster) runOfPage(t *testing.T, dir, command string) bool {
	t.Helper()
	for _, prefix := range elsewhere {
		if strings.HasPrefix(command, prefix) {
			return false
		}
	}
	command = strings.ReplaceAll(command, "NODE", "node-1")
	c.runShell(t, dir, command)
	switch {
	case strings.HasPrefix(command, "kubectl create namespace thence"):
		c.run(t, "kubectl", "label", "namespace", "thence", "pod-security.kubernetes.io/enforce=restricted")
	case strings.HasPrefix(command, "helm "), strings.HasPrefix(command, "kubectl -n thence scale "):
		c.awaitRollouts(t, "thence")
	case strings.HasPrefix(command, "kubectl drain "):
		c.awaitRollouts(t, "thence")
		if err := c.emptied(t, "node-1"); err != nil {
			t.Error(err)
		}
	}
	return true
}

// emptied checks that no worker is on a node and that a pool still has one.
func (c *cluster) emptied(t *testing.T, node string) error {
	t.Helper()
	on := c.run(t, "kubectl", "-n", "thence", "get", "pods", "-l", "app.kubernetes.io/component=worker", "-o", `jsonpath={.items[*].spec.nodeName}`)
	if strings.Contains(on, node) || on == "" {
		return fmt.Errorf("after the drain of %s the workers are on %q", node, on)
	}
	return nil
}

// runShell runs a line of the page as a shell does.
func (c *cluster) runShell(t *testing.T, dir, line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir, cmd.Env = dir, c.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}
