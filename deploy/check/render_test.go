package check_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chartv2 "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
)

const chart = "../helm/thence"

// loaded is the chart, read once: rendering does not change it.
var loaded = sync.OnceValues(func() (*chartv2.Chart, error) { return loader.LoadDir(chart) })

// valuesFiles are the files of values that all checks go over; "" stands for the chart's defaults.
func valuesFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files of values, %v", len(files), err)
	}
	return append(files, "")
}

// readValues reads a file of values as Helm does; "" has none.
func readValues(t *testing.T, file string) map[string]any {
	t.Helper()
	if file == "" {
		return map[string]any{}
	}
	values, err := loader.LoadValues(bytes.NewReader(read(t, file)))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return values
}

// render returns the objects that `helm template thence CHART --namespace thence` prints, made by Helm's own packages in this
// process, and the notes. TestHelm compares them with the program's.
func render(values map[string]any) (manifests, notes string, err error) {
	c, err := loaded()
	if err != nil {
		return "", "", err
	}
	release := common.ReleaseOptions{Name: "thence", Namespace: "thence", Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(c, values, release, common.DefaultCapabilities)
	if err != nil {
		return "", "", err
	}
	var e engine.Engine
	files, err := e.RenderWithContext(context.Background(), c, all)
	if err != nil {
		return "", "", err
	}
	const notesFile = "thence/templates/NOTES.txt"
	notes = files[notesFile]
	delete(files, notesFile)
	hooks, objects, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	for _, m := range objects {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	for _, h := range hooks {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", h.Path, h.Manifest)
	}
	return b.String(), notes, nil
}

// rendered are the objects that the chart makes of a file of values.
func rendered(t *testing.T, file string) []object {
	t.Helper()
	manifests, _, err := render(readValues(t, file))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return objects(t, manifests)
}
