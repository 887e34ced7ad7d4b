package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestTroubleIsToldOnce: servers of a cluster that are tried in turn, each with a trouble of its own, make one line a kind,
// and a new one once the connection was there.
func TestTroubleIsToldOnce(t *testing.T) {
	var log bytes.Buffer
	trouble := &trouble{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		trouble.tell(fmt.Errorf("first: %w", nats.ErrAuthorization))
		trouble.tell(fmt.Errorf("second: %w", nats.ErrSecureConnWanted))
	}
	told := func() [2]int {
		return [2]int{strings.Count(log.String(), refused), strings.Count(log.String(), insecure)}
	}
	if got := told(); got != [2]int{1, 1} {
		t.Errorf("told %d times, want each once:\n%s", got, &log)
	}
	trouble.over()
	trouble.tell(nats.ErrAuthorization)
	if got := told(); got != [2]int{2, 1} {
		t.Errorf("told %d times after a connection:\n%s", got, &log)
	}
}
