package netns_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/thence-dev/thence/integration_test/gauntlet/netns"
)

// TestCut: two hosts that are cut off from each other can't reach each other, a third reaches both, and healed they do
// again.
func TestCut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root")
	}
	net, err := netns.New(t.Context(), fmt.Sprintf("t%x", os.Getpid()&0xffffff), os.Getpid()&0xff, 3)
	if err != nil {
		t.Skipf("SKIPPED: no network namespaces here: %v", err)
	}
	t.Cleanup(net.Close)
	expect := func(when string, from, to int, want bool) {
		t.Helper()
		if got := reaches(t, net, from, to); got != want {
			t.Errorf("%s: host %d reaches host %d: %t, want %t", when, from, to, got, want)
		}
	}
	expect("at first", 0, 1, true)
	if err := net.Cut(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	expect("cut", 0, 1, false)
	expect("cut", 1, 0, false)
	expect("cut", 2, 0, true)
	expect("cut", 2, 1, true)
	if err := net.Heal(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	expect("healed", 0, 1, true)
	expect("healed", 1, 0, true)
}

// reaches tries to connect from one host to another, on a port where nobody listens: a refusal is an answer, silence is
// none.
func reaches(t *testing.T, net *netns.Net, from, to int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	argv := append(net.Within(from), "bash", "-c", fmt.Sprintf("echo > /dev/tcp/%s/9", net.Address(to)))
	err := exec.CommandContext(ctx, argv[0], argv[1:]...).Run()
	return err != nil && ctx.Err() == nil
}
