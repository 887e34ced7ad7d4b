package embedded_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/thence-dev/thence/internal/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o embedded.Options) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close) // may be called twice
	return s
}

func TestWithoutAListener(t *testing.T) {
	s := start(t, embedded.Options{Store: t.TempDir()})
	if s.URL() != "" {
		t.Errorf("the URL is %q, want none", s.URL())
	}
	nc, err := s.Connect(nats.Name("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.Opts.Name != "test" {
		t.Errorf("the option got lost: name %q", nc.Opts.Name)
	}
	if err := nc.Flush(); err != nil {
		t.Error(err)
	}
}

func TestStoreOutlivesTheServer(t *testing.T) {
	o := embedded.Options{Store: t.TempDir(), Listen: "127.0.0.1:0", SyncAlways: true, MaxStore: 1 << 30}
	for _, want := range []uint64{1, 2} {
		s := start(t, o)
		if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") {
			t.Errorf("the URL is %q", s.URL())
		}
		nc, err := nats.Connect(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
			t.Fatal(err)
		}
		ack, err := js.Publish(t.Context(), "s", nil)
		if err != nil || ack.Sequence != want {
			t.Errorf("got %+v, %v, want sequence %d", ack, err, want)
		}
		nc.Close()
		s.Close()
	}
}

func TestStartExplains(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options embedded.Options
		want    string
	}{
		"no store":     {embedded.Options{}, "embedded server: want a directory for its store"},
		"no port":      {embedded.Options{Store: t.TempDir(), Listen: "localhost"}, `embedded server: listen address "localhost": want host:port: `},
		"port's name":  {embedded.Options{Store: t.TempDir(), Listen: "localhost:nats"}, `embedded server: listen address "localhost:nats": port: `},
		"taken":        {embedded.Options{Store: t.TempDir(), Listen: taken.Addr().String()}, "embedded server: listen tcp " + taken.Addr().String()},
		"store a file": {embedded.Options{Store: file}, "embedded server: Can't start JetStream: "},
	} {
		s, err := embedded.Start(test.options)
		if err == nil {
			s.Close()
			t.Errorf("%s: it started", name)
		} else if !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
}
