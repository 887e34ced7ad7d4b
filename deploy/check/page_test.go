package check_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestPage reads docs/kubernetes.md: its values render, and its helm and kubectl commands speak of the chart that there
// is, of values that there are, and of objects that it makes. TestHelmKnowsPage has helm read their flags, `make cluster`
// runs them, and the page's nats commands are run by TestKubernetesPage in integration_test.
func TestPage(t *testing.T) {
	page := string(read(t, "../../docs/kubernetes.md"))
	values := regexp.MustCompile("(?s)```yaml values.yaml\n(.*?)```").FindStringSubmatch(page)
	if values == nil {
		t.Fatal("the page has no values.yaml")
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	write(t, file, values[1])
	all := rendered(t, file)
	validate(t, all)
	checkPods(t, all)
	made := map[string]bool{}
	text := ""
	for _, o := range all {
		made[strings.ToLower(fmt.Sprintf("%s/%s", o.at("kind"), o.at("metadata", "name")))] = true
		text += o.text
	}
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(block[1]) {
			commands++
			checkCommand(t, strings.Fields(line), text)
		}
	}
	if commands < 10 {
		t.Errorf("the page has %d commands", commands)
	}
	for _, name := range regexp.MustCompile("kubectl -n thence [a-z]+ (?:status )?(job|deployment)/([a-z-]+)").FindAllStringSubmatch(page, -1) {
		if !made[name[1]+"/"+name[2]] {
			t.Errorf("%s: the chart makes no such thing", name[0])
		}
	}
}

// checkCommand checks one command of the page, as far as that goes without a cluster.
func checkCommand(t *testing.T, words []string, rendered string) {
	t.Helper()
	line := strings.Join(words, " ")
	switch words[0] {
	case "helm":
		if words[1] != "rollback" {
			if _, err := os.Stat(filepath.Join("..", "..", words[3], "Chart.yaml")); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	case "kubectl":
		if i := strings.Index(line, "create secret generic "); i >= 0 {
			if name := strings.Fields(line[i:])[3]; !strings.Contains(rendered, "secretName: "+name) {
				t.Errorf("%s: nothing mounts that secret", line)
			}
		}
	case "thence": // the program's own tests run these
	default:
		t.Errorf("%s: what is that?", line)
	}
}

// TestStorageFits: a pool with the chart's defaults has room on a server with deploy/nats/server.conf.
func TestStorageFits(t *testing.T) {
	found := regexp.MustCompile(`max_file_store: ([0-9]+)GB`).FindSubmatch(read(t, "../nats/server.conf"))
	if found == nil {
		t.Fatal("server.conf has no max_file_store")
	}
	room, err := strconv.ParseInt(string(found[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		PoolDefaults struct{ Storage struct{ MaxBytes int64 } }
	}
	if err := yaml.Unmarshal(read(t, chart+"/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	const shares = 8 // jobs, calls, dead letters, bodies, and contexts four times
	if needs := shares * values.PoolDefaults.Storage.MaxBytes; needs == 0 || needs > room*1e9 {
		t.Errorf("a pool needs %d bytes, and the server has %d GB", needs, room)
	}
}
