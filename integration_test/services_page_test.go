package integration_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/thence-dev/thence/worker/servicefile"
)

// TestServicesPage runs the commands of docs/services.md, reads its files, and looks for every field of the service file
// and every flag that it is about.
func TestServicesPage(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := &reader{t: t, cluster: c, shell: newShell(t, c), stripe: newStripe(t, stripeKey)}
	ctx := within(t, 2*time.Minute)
	all, text := blocks(t, "docs/services.md")
	for _, b := range all {
		if b.info != "" {
			r.shell.write(t, b.info, b.text+"\n")
		}
		switch {
		case b.language == "yaml" && b.info != "":
			if _, err := servicefile.Load(filepath.Join(r.shell.dir, b.info)); err != nil {
				t.Errorf("docs/services.md:%d: %v", b.line, err)
			}
		case b.language == "sh":
			for _, command := range b.commands() {
				t.Logf("docs/services.md:%d: %s", b.line, command)
				r.follow(ctx, command)
			}
		case b.language == "text":
			_, err := servicefile.Parse("services.yaml", []byte("services:\n  acme:\n    url: https://a.com\n    max_inflight: 1\n"))
			if err == nil || err.Error() != b.text {
				t.Errorf("docs/services.md:%d: the error is now %v", b.line, err)
			}
		case !slices.Contains([]string{"yaml", "tengo"}, b.language):
			t.Errorf("docs/services.md:%d: don't know what to do with a block of %q", b.line, b.language)
		}
	}
	for _, name := range servicefile.Fields() {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/services.md does not say `%s`", name)
		}
	}
	help, _, _ := cli(t, "worker", "--help")
	for _, flag := range []string{"--services", "--secrets", "--no-inline", "--inline-secrets", "--dispatch-pools", "--dispatch-contexts"} {
		if !strings.Contains(help, flag) || !strings.Contains(text, flag) {
			t.Errorf("%s is missing in `thence worker --help` or docs/services.md", flag)
		}
	}
}
