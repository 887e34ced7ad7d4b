package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/thence-dev/thence/internal/stream"
)

// server is one server of the cluster, as it answered.
type server struct {
	Name    string    `json:"name"`
	Version string    `json:"ver"`
	Cluster string    `json:"cluster"`
	Time    time.Time `json:"time"`

	offset  time.Duration // of its clock against this machine's
	between time.Duration // how exact that is
}

// varz is what a server tells its operators on its monitoring port.
type varz struct {
	Name      string `json:"server_name"`
	JetStream struct {
		Config struct {
			MaxStore     int64         `json:"max_storage"`
			SyncInterval time.Duration `json:"sync_interval"`
			SyncAlways   bool          `json:"sync_always"`
		} `json:"config"`
		Stats struct {
			Store    uint64 `json:"storage"`
			Reserved uint64 `json:"reserved_storage"`
		} `json:"stats"`
	} `json:"jetstream"`
}

// quiet is how long servers are waited for after the last one answered.
const quiet = 300 * time.Millisecond

// find asks who is there: every server answers for the account's connections to it, of which one is enough.
func (e *examination) find(ctx context.Context) {
	asked := e.now()
	answers, err := e.asker.gather(ctx, "$SYS.REQ.ACCOUNT.PING.CONNZ", []byte(`{"limit":1}`), quiet)
	if err != nil {
		return
	}
	for _, msg := range answers {
		var answer struct {
			Server server `json:"server"`
		}
		if json.Unmarshal(msg.Data, &answer) == nil && answer.Server.Name != "" {
			answer.Server.between = e.now().Sub(asked)
			answer.Server.offset = answer.Server.Time.Sub(asked)
			e.servers = append(e.servers, answer.Server)
		}
	}
}

// checkServers looks at the version of every server that answers.
func checkServers(_ context.Context, e *examination) []Finding {
	versions := map[string]string{e.nc.ConnectedServerName(): e.nc.ConnectedServerVersion()}
	for _, s := range e.servers {
		versions[s.Name] = s.Version
	}
	var findings []Finding
	var all []string
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		all = append(all, name+" "+versions[name])
		if err := stream.CheckServer(versions[name]); err != nil {
			findings = append(findings, Finding{
				Level: Problem, Found: fmt.Sprintf("server %s: %v", name, err), Why: "workers refuse to start there",
				Do: "upgrade it to nats-server " + stream.MinServer + " or newer",
			})
		}
	}
	seen := ""
	if len(e.servers) == 0 {
		seen = "; others of its cluster can't be seen with these credentials"
	}
	return orOK(findings, "nats-server %s%s", strings.Join(all, ", "), seen)
}

// Skews of clocks.
const (
	skewWarns = time.Second
	skewHurts = time.Minute
)

// checkClocks compares this machine's clock with those of the servers.
func checkClocks(_ context.Context, e *examination) []Finding {
	if len(e.servers) == 0 {
		return []Finding{{Level: Unknown, Found: "the servers' clocks can't be read with these credentials"}}
	}
	var findings []Finding
	worst := time.Duration(0)
	for _, s := range e.servers {
		skew := max(s.offset-s.between, -s.offset, 0) // what can't be the way of the answer
		if worst = max(worst, skew); skew <= skewWarns {
			continue
		}
		level := Warning
		if skew > skewHurts {
			level = Problem
		}
		findings = append(findings, Finding{
			Level: level, Found: fmt.Sprintf("the clock of server %s is %s from this machine's", s.Name, skew.Round(time.Millisecond)),
			Why: "deadlines, the waits between tries of a call and the times in reports are then wrong by that, and a pool that is made anew may be refused",
			Do:  "run NTP (chronyc tracking, timedatectl) on both",
		})
	}
	return orOK(findings, "%d of %d servers within %s of this machine", len(e.servers), len(e.servers), max(worst, time.Millisecond).Round(time.Millisecond))
}

// checkJetStream looks whether JetStream is there, and at the account's limits.
func checkJetStream(ctx context.Context, e *examination) []Finding {
	if _, err := e.asker.ask(ctx, "$JS.API.INFO", nil, nil); errors.Is(err, errDenied) {
		return []Finding{{Level: Unknown, Found: "the account's limits can't be read with these credentials ($JS.API.INFO)"}}
	}
	tiers, err := stream.LookAtAccount(ctx, e.nc)
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return []Finding{{
			Level: Problem, Found: "JetStream is not enabled for this account", Why: "nothing can be stored, so no job is accepted",
			Do: "start the server with `nats-server -js`, or give the account jetstream in its configuration",
		}}
	}
	if err != nil {
		return append(e.unwell(ctx), failed("the account's limits", err)...)
	}
	findings := e.unwell(ctx)
	limited := "no limits of the account"
	for _, name := range slices.Sorted(maps.Keys(tiers)) {
		t := tiers[name]
		for _, l := range []struct {
			what      string
			used, max int64
		}{
			{"bytes of storage", t.Store, t.MaxStore}, {"streams", int64(t.Streams), int64(t.MaxStreams)}, {"consumers", int64(t.Consumers), int64(t.MaxConsumers)},
		} {
			if l.max < 0 || l.what == "bytes of storage" && l.max == 0 {
				continue
			}
			limited = "the account is below its limits"
			if l.used*100 >= l.max*nearlyFull {
				findings = append(findings, Finding{
					Level: Warning, Found: fmt.Sprintf("the account uses %d of %d %s%s", l.used, l.max, l.what, tier(name)),
					Why: "at the limit nothing more is stored or made", Do: "raise the account's limit, or remove what is not needed",
				})
			}
		}
	}
	return orOK(findings, "enabled; %s", limited)
}

// unwell is what the monitored server says is wrong with it: of a stream that a full disk has stopped no client is told.
func (e *examination) unwell(ctx context.Context) []Finding {
	if e.Monitor == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := get(ctx, strings.TrimSuffix(e.Monitor, "/varz")+"/healthz")
	if err != nil {
		return nil // the check of syncs says so
	}
	defer resp.Body.Close()
	var told struct{ Status, Error string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&told); err != nil || resp.StatusCode == http.StatusOK || told.Error == "" {
		return nil
	}
	return []Finding{{
		Level: Problem, Found: "the monitored server says that it is " + told.Status + ": " + cut(told.Error, 300),
		Why: "what it names takes nothing and does nothing; after a full disk that stays so until the server is restarted",
		Do:  "look at the server's log; where the disk is full, make room, then restart it (\"A full disk\" in docs/operations.md)",
	}}
}

func tier(name string) string {
	if name == "" {
		return ""
	}
	return " of tier " + name
}

// wantPayload is what commits need: state, outbox and report in one message.
const wantPayload = 1 << 20

// checkPayload looks at the largest message that the server takes.
func checkPayload(_ context.Context, e *examination) []Finding {
	if got := e.nc.MaxPayload(); got < wantPayload {
		return []Finding{{
			Level: Problem, Found: fmt.Sprintf("the server's max_payload is %d", got),
			Why: fmt.Sprintf("a commit may need %d; jobs whose outcome does not fit become dead letters (too_large)", wantPayload),
			Do:  "set max_payload: 1MB or more in the server's configuration, and reload it",
		}}
	}
	return []Finding{{Level: OK, Found: fmt.Sprintf("messages of up to %d bytes", e.nc.MaxPayload())}}
}

// checkSync looks how often the server writes to disk, if its monitoring says so: no client is told.
func checkSync(ctx context.Context, e *examination) []Finding {
	if e.Monitor == "" {
		return []Finding{{
			Level: Unknown, Found: "no client is told how often the server syncs its files",
			Why: "at the server's default a power failure loses up to two minutes of accepted jobs, unless the streams have replicas elsewhere",
			Do:  "thence doctor --monitor http://SERVER:8222/varz (with http_port set there), or look for sync_interval in its configuration",
		}}
	}
	v, err := readVarz(ctx, e.Monitor)
	if err != nil {
		return []Finding{{Level: Unknown, Found: fmt.Sprintf("--monitor: %v", err), Do: "set http_port in the server's configuration, and give the URL of its /varz"}}
	}
	e.varz = v
	if c := v.JetStream.Config; !c.SyncAlways {
		return []Finding{{
			Level: Warning, Found: fmt.Sprintf("server %s syncs its files every %s", v.Name, c.SyncInterval),
			Why: "it says that a job is stored before it is on disk: a power failure loses what was accepted since, unless the streams have replicas elsewhere",
			Do:  "set sync_interval: always in the jetstream block of its configuration, and restart it",
		}}
	}
	return []Finding{{Level: OK, Found: fmt.Sprintf("server %s syncs before it acknowledges", v.Name)}}
}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	return client.Do(req)
}

func readVarz(ctx context.Context, url string) (*varz, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := get(ctx, url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	v := new(varz)
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return nil, fmt.Errorf("%s is no /varz of a nats-server: %w", url, err)
	}
	if v.Name == "" {
		return nil, fmt.Errorf("%s is no /varz of a nats-server", url)
	}
	return v, nil
}
