package calls

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/thence-dev/thence/internal/job"
)

// inward are hosts of URLs that lead to this machine, to its network, or nowhere, in the forms in which they are
// smuggled.
var inward = []string{
	// Loopback, as it is and in forms that some parsers take for it.
	"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.254", "localhost", "LOCALHOST", "localhost.", "foo.localhost",
	"2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "127.000.000.001", "[::1]",
	"[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::1%25lo]", "%31%32%37.0.0.1", "①②⑦.⓪.⓪.①",
	// IPv4 inside of IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP.
	"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]",
	"[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[::7f00:1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]",
	"[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]",
	"[2001::5efe:7f00:1]", "[fe80::5efe:127.0.0.1]",
	// Nowhere, and everywhere.
	"0.0.0.0", "0.1.2.3", "0", "[::]", "[::ffff:0.0.0.0]", "255.255.255.255", "[ff02::1]", "[ff0e::1]", "224.0.0.1", "239.255.255.250",
	// Private, shared and link-local networks.
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.254",
	"169.254.0.1", "169.254.1.1", "[fe80::1]", "[fe80::1%25eth0]", "[febf::1]", "[fec0::1]", "[fc00::1]", "[fd12:3456:789a::1]",
	// Clouds' metadata.
	"169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]",
	"[fd00:ec2::23]", "[fd20:ce::254]", "[fe80::a9fe:a9fe]", "metadata.google.internal", "instance-data.ec2.internal",
	// Reserved: protocols, documentation, benchmarks, relays, discard, the future.
	"192.0.0.1", "192.0.0.8", "192.0.2.1", "198.51.100.7", "203.0.113.9", "192.88.99.1", "198.18.0.1", "198.19.255.255", "192.31.196.1",
	"192.52.193.1", "192.175.48.1", "240.0.0.1", "250.1.2.3", "[100::1]", "[2001:db8::1]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]",
	"[3fff::1]", "[5f00::1]", "[2620:4f:8000::1]", "[4000::1]", "[::2]",
	// Names that resolve to it.
	"loopback.example", "loopback6.example", "private.example", "mapped.example", "nat64.example", "metadata.example", "mixed.example",
	"mind.example",
}

// TestInwardAddresses tries each of them on a service without leave for it, while a canary listens on loopback.
func TestInwardAddresses(t *testing.T) {
	t.Parallel()
	if len(inward) < 100 {
		t.Errorf("%d cases, want 100 at least", len(inward))
	}
	port := canary(t)
	number := must(strconv.Atoi(port))(t)
	c := newClient(Service{Name: Default, ConnectTimeout: 2 * time.Second, Ports: []int{number}}.withDefaults(), alone(Service{Name: Default}, nil).resolving(fakeDNS(t)))
	t.Cleanup(c.close)
	for _, host := range inward {
		for _, scheme := range []string{"http", "https"} {
			got := c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: scheme + "://" + host + ":" + port + "/latest/meta-data", Timeout: 3 * time.Second}})
			f := got.answer.Failure
			if f == nil {
				t.Errorf("%s://%s: it was reached: %+v", scheme, host, got.answer)
				continue
			}
			unknown := f.Type == job.FailureConnection && strings.Contains(f.Message, "no such host")
			if f.Type != job.FailureBlocked && f.Type != job.FailureRejected && !unknown {
				t.Errorf("%s://%s: %s: %s", scheme, host, f.Type, f.Message)
			}
		}
	}
}

func (a access) resolving(r *net.Resolver) access { a.resolver = r; return a }

// canary listens on loopback in both families, and fails the test when anyone connects.
func canary(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	_, port, err = net.SplitHostPort(l.Addr().String())
	ok(t, err)
	listeners := []net.Listener{l}
	if six, err := net.Listen("tcp", "[::1]:"+port); err == nil { // a machine may have no IPv6
		listeners = append(listeners, six)
	}
	var ends sync.WaitGroup
	for _, l := range listeners {
		ends.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				t.Errorf("the canary was reached on %s", conn.LocalAddr())
				conn.Close()
			}
		})
	}
	t.Cleanup(func() {
		for _, l := range listeners {
			l.Close()
		}
		ends.Wait()
	})
	return port
}

// names are what the test's name server knows, each answer in its turn, the last for ever.
var names = map[string][][]string{
	"loopback.example.":  {{"127.0.0.1"}},
	"loopback6.example.": {{"::1"}},
	"private.example.":   {{"10.1.2.3"}},
	"mapped.example.":    {{"::ffff:127.0.0.1"}},
	"nat64.example.":     {{"64:ff9b::7f00:1"}},
	"metadata.example.":  {{"169.254.169.254"}},
	"mixed.example.":     {{"127.0.0.1", "::1", "10.0.0.1"}},
	"mind.example.":      {{"192.0.2.1"}, {"127.0.0.1"}},

	"metadata.google.internal.":   {{"169.254.169.254"}},
	"instance-data.ec2.internal.": {{"169.254.169.254"}},
}

// fakeDNS is a resolver whose name server knows names and nothing else.
func fakeDNS(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	ok(t, err)
	var server sync.WaitGroup
	asked := map[string]int{}
	server.Go(func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answerDNS(buffer[:n], asked), from)
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		server.Wait()
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answerDNS answers one question (RFC 1035, 4.1): a name, and a type of A (1) or AAAA (28).
func answerDNS(query []byte, asked map[string]int) []byte {
	name, at := "", 12
	for query[at] != 0 {
		n := int(query[at])
		name += string(query[at+1:at+1+n]) + "."
		at += 1 + n
	}
	kind := binary.BigEndian.Uint16(query[at+1:])
	question := query[12 : at+5]
	turns := names[strings.ToLower(name)]
	var records []byte
	count := 0
	if len(turns) > 0 {
		turn := turns[min(asked[name], len(turns)-1)]
		asked[name]++
		for _, text := range turn {
			ip := netip.MustParseAddr(text)
			if ip.Is4() != (kind == 1) {
				continue
			}
			raw := ip.AsSlice()
			records = append(records, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
			records = append(records, raw...)
			count++
		}
	}
	head := append([]byte{}, query[:2]...)
	flags := byte(0x80) // no error
	if len(turns) == 0 {
		flags = 0x83 // no such name
	}
	head = append(head, 0x81, flags, 0, 1, 0, byte(count), 0, 0, 0, 0)
	return append(append(head, question...), records...)
}

// TestPublicAddresses: what leads out is dialled. Looked at where the decision is made, as a test dials nobody.
func TestPublicAddresses(t *testing.T) {
	for address, allowed := range map[string]bool{
		"1.1.1.1:443": true, "8.8.8.8:80": true, "172.32.0.1:443": true, "100.63.255.255:443": true, "11.0.0.1:80": true, "[2606:4700::1111]:443": true,
		"[2a00:1450::1]:443": true, "1.1.1.1:22": false, "1.1.1.1:8080": false, "[2606:4700::1111]:25": false, "169.253.255.255:443": true,
	} {
		network := "tcp4"
		if strings.HasPrefix(address, "[") {
			network = "tcp6"
		}
		err := egress{ports: defaultPorts}.control(network, address, nil)
		equal(t, address, err == nil, allowed)
	}
	for _, network := range []string{"udp4", "unix", "ip4", "tcp"} {
		if egress := (egress{private: true}); egress.control(network, "1.1.1.1:443", nil) == nil {
			t.Errorf("%s is allowed", network)
		}
	}
	for _, address := range []string{"", "1.1.1.1", "example.com:443", "1.1.1.1:https"} {
		if (egress{private: true}).control("tcp4", address, nil) == nil {
			t.Errorf("%q is allowed", address)
		}
	}
}

// TestPrivateAddresses: a service that may reach private addresses reaches those, and still no metadata, nothing
// link-local, multicast or reserved.
func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	for host, allowed := range map[string]bool{
		"127.0.0.1": true, "::1": true, "10.0.0.1": true, "172.16.9.9": true, "192.168.1.1": true, "100.64.0.1": true, "fd12::1": true, "::ffff:10.0.0.1": true, "1.1.1.1": true,
		"169.254.169.254": false, "169.254.1.1": false, "fe80::1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false, "255.255.255.255": false,
		"100.100.100.200": false, "fd00:ec2::254": false, "fd00:ec2::254%eth0": false, "::ffff:169.254.169.254": false, "::ffff:100.100.100.200": false, "64:ff9b::a00:1": false, "192.0.2.1": false,
	} {
		equal(t, host, egress{private: true}.address(netip.MustParseAddr(host)) == nil, allowed)
		if err := (egress{}).address(netip.MustParseAddr(host)); allowed && host != "1.1.1.1" && (err == nil || !strings.Contains(err.Error(), "`allow_private: true`")) {
			t.Errorf("%s: got %v", host, err)
		}
	}
	base := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	c := newClient(Service{Name: Default, AllowPrivate: true}.withDefaults(), alone(Service{Name: Default}, nil))
	defer c.close()
	equal(t, "status", c.send(t.Context(), job.Call{Request: job.Request{Method: "GET", URL: base}}).answer.Status, 200)
}
