package calls

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"code.dny.dev/ssrf"
)

// egress decides which addresses may be dialled. It looks at the address of each connection before it is made, after
// DNS: neither a redirect nor a name that changes its mind gets past it.
type egress struct {
	private bool  // loopback, private and shared networks are allowed
	ports   []int // allowed ports; empty: any
}

// errBlocked is wrapped by what egress and redirects refuse.
var errBlocked = errors.New("blocked")

// defaultPorts are those of a service that owns no base URL.
var defaultPorts = []int{80, 443}

// public knows the addresses that lead out: all of IANA's special purpose registries are refused.
var public = ssrf.New(ssrf.WithAnyPort())

// metadata are cloud providers' addresses that hand out credentials to whoever asks. They are refused to every
// service, also where they lie in a network that is private, or public.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // AWS, Azure, Google and most others
	netip.MustParseAddr("169.254.170.2"),   // AWS, of containers
	netip.MustParseAddr("169.254.170.23"),  // AWS, of pods
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure, of virtual machines
	netip.MustParseAddr("192.0.0.192"),     // Oracle
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd00:ec2::23"),    // AWS, of pods
	netip.MustParseAddr("fd20:ce::254"),    // Google
}

// shared is the network of carriers' NATs (RFC 6598), which clouds use as a private one.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// control is a net.Dialer's Control.
func (e egress) control(network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s %q is no address of an API", errBlocked, network, address)
	}
	if err := e.address(at.Addr()); err != nil {
		return err
	}
	if len(e.ports) > 0 && !slices.Contains(e.ports, int(at.Port())) {
		return fmt.Errorf("%w: port %d is not among the service's ports %v", errBlocked, at.Port(), e.ports)
	}
	return nil
}

func (e egress) address(ip netip.Addr) error {
	ip = ip.WithZone("")
	if plain := ip.Unmap(); slices.Contains(metadata, plain) {
		return fmt.Errorf("%w: %s hands out a cloud's credentials", errBlocked, ip)
	}
	if e.private && inside(ip) {
		return nil
	}
	err := public.SafeAddr(ip)
	switch {
	case err == nil:
		return nil
	case inside(ip):
		return fmt.Errorf("%w: the address is private, and no URL of a service with `allow_private: true`: %w", errBlocked, err)
	default:
		return fmt.Errorf("%w: the address is neither public nor private: %w", errBlocked, err)
	}
}

// inside tells whether an address is one that allow_private allows: of this machine, or of a private network. What is
// link-local, multicast or reserved is not.
func inside(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLoopback() || ip.IsPrivate() || shared.Contains(ip)
}
