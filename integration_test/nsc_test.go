package integration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// TestNSC runs the commands of deploy/nats/README.md, starts a server with the resolver that they make, and tries on it all that
// is tried with permissions.conf.
func TestNSC(t *testing.T) {
	nscCLI.build(t)
	dir := followNSC(t)
	issued := func(t *testing.T, workerArgs ...string) *guarded {
		t.Helper()
		o, err := server.ProcessConfigFile(filepath.Join(dir, "resolver.conf"))
		if err != nil {
			t.Fatal(err)
		}
		return guard(t, o, dir, workerArgs...)
	}
	t.Run("suffice", func(t *testing.T) { permissionsSuffice(t, issued) })
	g := issued(t)
	t.Run("forbid", func(t *testing.T) { permissionsForbid(t, g) })
	t.Run("headers", func(t *testing.T) { headersReachNoFurther(t, g) })
	t.Run("contexts", func(t *testing.T) { oneContextIsNoOther(t, g) })
	t.Run("answers", func(t *testing.T) { answersGoNoFurther(t, g) })
}

// followNSC runs the page's commands, and returns the folder of what they made. root is a user for the test alone.
func followNSC(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script, err := os.ReadFile("../deploy/nats/users.sh")
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{dir: dir, env: []string{"HOME=" + dir, "PATH=" + filepath.Dir(thence) + string(os.PathListSeparator) + os.Getenv("PATH")}}
	s.write(t, "deploy/nats/users.sh", string(script))
	if err := os.Chmod(filepath.Join(dir, "deploy", "nats", "users.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 5*time.Minute)
	all, _ := blocks(t, "deploy/nats/README.md")
	ran := 0
	for _, b := range all {
		if b.info != "nsc" {
			continue
		}
		for _, command := range b.commands() {
			if strings.Contains(command, "generate config") {
				s.run(ctx, t, "nsc add user --account THENCE --name root")
				s.run(ctx, t, "nsc generate creds --account THENCE --name root --output-file root.creds")
			}
			s.run(ctx, t, command)
			ran++
		}
	}
	if ran < 9 {
		t.Fatalf("the page has %d commands of nsc", ran)
	}
	return dir
}
