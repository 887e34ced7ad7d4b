package integration_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDemo: the demo kills a worker in the middle of a call, the other one takes over, both flows end, and each payment
// was made once.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the ack wait of a killed worker")
	}
	t.Parallel()
	began := time.Now()
	out, log, code := cli(t, "demo")
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, out, log)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %s", took)
	}
	for _, line := range strings.Split(out, "\n") {
		if n := len([]rune(line)); n > 120 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	killed := regexp.MustCompile(`\*\*\* (worker-[ab]) is killed with SIGKILL while Stripe works on call (\S+)`).FindStringSubmatch(out)
	taken := regexp.MustCompile(`\*\*\* (worker-[ab]) takes call (\S+) over, and sends it again under the same Idempotency-Key`).FindStringSubmatch(out)
	if killed == nil || taken == nil || killed[1] == taken[1] || killed[2] != taken[2] {
		t.Errorf("killed %q, taken over by %q", killed, taken)
	}
	for _, want := range []string{
		`(?m)^ +[0-9.]+  cus_42 .* checkout_subscribed +done `,
		`(?m)^ +[0-9.]+  cus_43 .* checkout_failed +done `,
		`(?s)state of payments\.cus_42\n.*"status":"completed".*subscription_status +"active".*state of payments\.cus_43\n`,
		`(?s)state of payments\.cus_43\n.*"status":"declined".*"code":"card_declined"`,
		`2 payments were asked for in 3 requests, and each was carried out once \(the declined one was declined once\)`,
		`Try next:`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no match for %s", want)
		}
	}
	if log != "" {
		t.Errorf("on standard error: %s", log)
	}
	if t.Failed() {
		t.Log("\n" + out)
	}
}
