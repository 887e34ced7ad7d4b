package integration_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/dispatcher"
	"github.com/thence-dev/thence/internal/job"
)

// TestKubernetesPage runs what docs/kubernetes.md says about backups: what is restored on another server is what was
// there, and its workers go on with it. The page's helm and kubectl commands are looked at in deploy/check.
func TestKubernetesPage(t *testing.T) {
	buildNATS(t)
	t.Parallel()
	ctx := within(t, 3*time.Minute)
	from, to := newCluster(t), newCluster(t)
	shell := newShell(t, from)
	work := func(c *cluster, name string) *process {
		w := start(t, name, nil, "worker", "--pool", "payments", "--server", c.url(), "--log", "json", "--scripts", scripts(t, callScripts))
		w.await(w.ready)
		return w
	}
	publish := func(c *cluster, id string) {
		d, err := dispatcher.New(c.connect(), dispatcher.Config{Worker: "payments", Context: "cus_42"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dispatch(ctx, dispatcher.Job{ID: id, Script: "count"}); err != nil {
			t.Fatal(err)
		}
	}
	counted := func(c *cluster, n int) {
		awaitCommit(ctx, t, c, job.Address{Pool: "payments", Context: "cus_42"}, func(got job.Commit) bool { return len(got.State) > 0 && stateN(t, got) == n })
	}

	old := work(from, "old")
	publish(from, "one")
	counted(from, 1)
	if code := old.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	publish(from, "two") // waits on its stream while it is copied

	all, text := blocks(t, "docs/kubernetes.md")
	checkBackedUp(ctx, t, from, text)
	ran := 0
	for _, b := range all {
		switch b.info {
		case "nats restore":
			dir := shell.dir
			shell = newShell(t, to)
			shell.dir = dir
		case "nats":
		default:
			continue
		}
		for _, command := range b.commands() {
			shell.run(ctx, t, command)
			ran++
		}
	}
	if ran != 14 {
		t.Fatalf("the page has %d commands of the nats CLI, want 14", ran)
	}
	work(to, "new")
	counted(to, 2)
	publish(to, "two") // recognised
	publish(to, "three")
	counted(to, 3)
}

// checkBackedUp: the page takes a copy of every stream that a pool has, but for those that workers make anew.
func checkBackedUp(ctx context.Context, t *testing.T, c *cluster, page string) {
	t.Helper()
	js, err := jetstream.New(c.connect())
	if err != nil {
		t.Fatal(err)
	}
	names := js.StreamNames(ctx)
	n := 0
	for name := range names.Name() {
		n++
		if name != "RATES_payments" && !strings.Contains(page, "nats stream backup "+name+" backup/"+name+"\n") {
			t.Errorf("docs/kubernetes.md takes no copy of the stream %s", name)
		}
	}
	if names.Err() != nil || n < 7 {
		t.Fatalf("the server has %d streams, %v", n, names.Err())
	}
}

func stateN(t *testing.T, c job.Commit) int {
	t.Helper()
	encoded, err := job.Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return counter(t, encoded)
}
