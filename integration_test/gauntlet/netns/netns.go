// Package netns makes hosts that are network namespaces of their own, joined by a bridge, and cuts any two of them off
// from each other. It needs root, Linux, iproute2 and util-linux.
//
// A cut is real: packets leave one host and reach nobody, because its neighbour's hardware address is set to one that
// nobody has. Neither side hears of it; connections stay open until somebody's patience ends.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Net is a set of hosts. Close removes them.
type Net struct {
	bridge string
	subnet int // 10.213.<subnet>.0/24
	hosts  []string
}

// nobody is a hardware address that no host has.
const nobody = "02:00:00:00:00:fe"

// New makes hosts 0 to n-1. tag, of at most 8 characters, and subnet, 0 to 255, tell this net from others on the machine.
func New(ctx context.Context, tag string, subnet, n int) (*Net, error) {
	net := &Net{bridge: "br-" + tag, subnet: subnet}
	err := each(ctx,
		"ip link add "+net.bridge+" type bridge",
		fmt.Sprintf("ip addr add %s/24 dev %s", net.Gateway(), net.bridge),
		"ip link set "+net.bridge+" up",
	)
	for i := 0; i < n && err == nil; i++ {
		err = net.add(ctx, fmt.Sprintf("%s-%d", tag, i))
	}
	if err != nil {
		net.Close()
		return nil, err
	}
	return net, nil
}

func (n *Net) add(ctx context.Context, host string) error {
	n.hosts = append(n.hosts, host)
	i := len(n.hosts) - 1
	return each(ctx,
		"ip netns add "+host,
		fmt.Sprintf("ip link add v%s type veth peer name eth0 netns %s", host, host),
		fmt.Sprintf("ip link set v%s master %s up", host, n.bridge),
		fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", host, n.Address(i)),
		fmt.Sprintf("ip -n %s link set eth0 up", host),
		fmt.Sprintf("ip -n %s link set lo up", host),
	)
}

// Gateway is the address of this machine, which every host reaches.
func (n *Net) Gateway() string { return fmt.Sprintf("10.213.%d.254", n.subnet) }

// Address is that of a host.
func (n *Net) Address(host int) string { return fmt.Sprintf("10.213.%d.%d", n.subnet, host+1) }

// Within is the command that starts another on a host. It is not `ip netns exec`, which makes a namespace of mounts as
// well: then every disk that is mounted stays so for as long as the process runs, whoever unmounts it.
func (n *Net) Within(host int) []string {
	return []string{"nsenter", "--net=/run/netns/" + n.hosts[host]}
}

// Cut cuts two hosts off from each other.
func (n *Net) Cut(ctx context.Context, a, b int) error {
	cut := func(from, to int) string {
		return fmt.Sprintf("ip -n %s neigh replace %s lladdr %s dev eth0 nud permanent", n.hosts[from], n.Address(to), nobody)
	}
	return each(ctx, cut(a, b), cut(b, a))
}

// Heal undoes a cut.
func (n *Net) Heal(ctx context.Context, a, b int) error {
	heal := func(from, to int) string {
		return fmt.Sprintf("ip -n %s neigh del %s dev eth0", n.hosts[from], n.Address(to))
	}
	return each(ctx, heal(a, b), heal(b, a))
}

// Close removes all of it. No process may run on the hosts any more.
func (n *Net) Close() {
	ctx := context.Background()
	for _, host := range n.hosts {
		_ = each(ctx, "ip netns del "+host) // takes its end of the pair along, and that the other
	}
	_ = each(ctx, "ip link del "+n.bridge)
}

// each runs commands, up to the first that fails.
func each(ctx context.Context, commands ...string) error {
	for _, command := range commands {
		argv := strings.Fields(command)
		text, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			return fmt.Errorf("%s: %w: install iproute2", command, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(text)))
		}
	}
	return nil
}
