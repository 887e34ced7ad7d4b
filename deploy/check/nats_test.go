package check_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// TestNATSValues: the values for the NATS project's chart say what server.conf says, leave room on the volume, and bring all
// passwords that permissions.conf asks for. The chart itself is not at hand.
func TestNATSValues(t *testing.T) {
	var values struct {
		Config struct {
			Cluster struct {
				Enabled  bool   `json:"enabled"`
				Name     string `json:"name"`
				Replicas int    `json:"replicas"`
			} `json:"cluster"`
			Jetstream struct {
				Enabled   bool `json:"enabled"`
				FileStore struct {
					Dir     string `json:"dir"`
					MaxSize string `json:"maxSize"`
					PVC     struct {
						Enabled bool              `json:"enabled"`
						Size    resource.Quantity `json:"size"`
					} `json:"pvc"`
				} `json:"fileStore"`
				Merge map[string]string `json:"merge"`
			} `json:"jetstream"`
			Monitor any               `json:"monitor"`
			Merge   map[string]string `json:"merge"`
		} `json:"config"`
		Container struct {
			Image any            `json:"image"`
			Env   map[string]any `json:"env"`
		} `json:"container"`
		PodTemplate any `json:"podTemplate"`
		NATSBox     any `json:"natsBox"`
	}
	if err := yaml.UnmarshalStrict(read(t, "../nats/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	if c := values.Config.Cluster; !c.Enabled || c.Replicas != 3 {
		t.Errorf("the cluster is %+v", c)
	}
	js := values.Config.Jetstream
	conf := string(read(t, "../nats/server.conf"))
	for _, want := range []string{
		"name: " + values.Config.Cluster.Name, "store_dir: " + js.FileStore.Dir, "max_file_store: " + js.FileStore.MaxSize, "sync_interval: " + js.Merge["sync_interval"],
	} {
		if !regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(want) + `( |$)`).MatchString(conf) {
			t.Errorf("server.conf does not say %q", want)
		}
	}
	size := resource.MustParse(strings.Replace(js.FileStore.MaxSize, "GB", "Gi", 1)) // a server's GB is 1<<30 bytes
	if !js.Enabled || !js.FileStore.PVC.Enabled || size.Cmp(js.FileStore.PVC.Size) >= 0 {
		t.Errorf("the store of %s does not fit into a volume of %s", js.FileStore.MaxSize, &js.FileStore.PVC.Size)
	}
	permissions := string(read(t, "../nats/permissions.conf"))
	var asked []string
	for _, m := range regexp.MustCompile(`password: \$(\w+)`).FindAllStringSubmatch(permissions, -1) {
		asked = append(asked, m[1])
	}
	slices.Sort(asked)
	if got := slices.Sorted(maps.Keys(values.Container.Env)); len(asked) < 6 || !slices.Equal(asked, got) {
		t.Errorf("permissions.conf asks for %q, the values have %q", asked, got)
	}
	if file := values.Config.Merge["$include"]; !strings.Contains(string(read(t, "../nats/README.md")), strings.Replace(file, ".", `\.`, 1)+"=deploy/nats/"+file) {
		t.Errorf("README.md's command does not bring %q", file)
	}
}
