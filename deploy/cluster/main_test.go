// Package cluster_test applies deploy/ to a real control plane: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler run as processes on loopback addresses, and kwok plays the nodes. What is admitted, scheduled, rolled out,
// scaled, evicted and removed here is so in any cluster. What is not seen: kwok says of each pod that it runs and is ready, and of
// each Job's pod that it has ended well, and runs nothing; so no image is pulled, no file mounted, no packet filtered.
//
// It is a module of its own, without requirements. kubernetes.mod and kwok.mod pin the programs; `make cluster` builds
// them, which takes minutes the first time, and runs this.
package cluster_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var bin = flag.String("bin", "", "folder with etcd, kube-apiserver, kubectl, kwok, helm and the rest; `make cluster` fills it")

const root = "../.." // of the project

// patience is how long the slowest machine may take to do one thing. It bounds a failure; nothing is paced by it.
const patience = 5 * time.Minute

// cluster is a control plane with two nodes.
type cluster struct {
	dir  string // what it keeps, removed with the test
	root string // of the project, as an absolute path
	bin  string
	env  []string // of kubectl and helm: they speak to this cluster and know no other
}

// run runs a program of bin and returns what it printed; it ends the test when that fails.
func (c *cluster) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := c.try(t, "", program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// try runs a program of bin with an input, and returns what it printed to both its outputs.
func (c *cluster) try(t *testing.T, input, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...)
	cmd.Dir, cmd.Env, cmd.Stdin = c.root, c.env, strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually asks again until there is no error.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) string {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
