package sandbox

import (
	"testing"
	"time"
)

// TestUnseenJobIsShort: a job that ended before the watch came to look counts as short, however long the machine let it
// stand; one that was seen counts what it has computed.
func TestUnseenJobIsShort(t *testing.T) {
	if ofCPU == "" {
		t.Skip("time is counted by the clock here")
	}
	w := newWatch(&child{page: newTestPage(t), memory: LeastMemory})
	w.armed = true // so that it looks when it is told to only
	w.begin(1, time.Hour, false)
	w.start = w.start.Add(-time.Hour)
	if used, _ := w.end(); used != shortRun {
		t.Errorf("unseen for an hour: %s, want %s", used, shortRun)
	}
	w.begin(2, time.Hour, false)
	w.start = w.start.Add(-time.Millisecond)
	if used, _ := w.end(); used < time.Millisecond || used > shortRun {
		t.Errorf("unseen for a millisecond: %s, want what passed", used)
	}
	w.begin(3, time.Hour, false)
	w.look()
	w.timer.Stop()
	work(2 * shortRun)
	if used, _ := w.end(); used < 2*shortRun {
		t.Errorf("seen: %s, want at least %s", used, 2*shortRun)
	}
}
