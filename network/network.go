// Package network gives a sandbox the network that its policy allows and
// nothing more: a veth pair into its network namespace, an address that is
// its own, source translation towards the world, and packet rules that it
// cannot reach.
//
// Whatever the policy says, a sandbox never reaches the host's own addresses,
// other sandboxes, link-local and metadata addresses, and it cannot send with
// an address that is not its own. Without an allow list every public address
// is reachable and no private one; with one, exactly the listed networks are,
// private ones included. Name servers are reachable on port 53 only. IPv6 is
// switched off inside. What is refused is rejected, not dropped, so that
// programs fail at once instead of waiting.
//
// All state is in the kernel: the host's end of a pair is named after its
// slot, which is also its address, and carries the sandbox's id as its alias.
// The pair vanishes with the namespace, so a daemon that dies leaves at most
// rules for interfaces that no longer exist; Sweep removes those.
package network

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/faas-platform/faas"
)

// DefaultPrefix is where sandboxes get their addresses from unless configured
// otherwise: four addresses for each, 16,384 sandboxes.
var DefaultPrefix = netip.MustParsePrefix("10.213.0.0/16")

// maxAllow bounds the allow list of one policy: each entry is a rule that
// every packet of the sandbox may be compared with.
const maxAllow = 64

// What connecting takes, in the words of New's errors and the documentation.
const (
	NeedsPrivilege       = "connecting a sandbox needs CAP_NET_ADMIN on the host"
	NeedsPrivilegeRemedy = "run the gateway as root"
	Needs                = "nf_tables in the kernel, and no other firewall that drops forwarded packets"
)

// Options configures a Network. Every field may be zero.
type Options struct {
	Installation string       // tells this data directory's sandboxes from those of others on the machine
	Prefix       netip.Prefix // DefaultPrefix; IPv4, /8 to /28
	DNS          []netip.Addr // the host's own resolvers that are not loopback, when empty
	Logger       *slog.Logger
}

// Attachment is one sandbox's connection to the world. It is serialisable.
type Attachment struct {
	SandboxID     string       `json:"sandbox_id"`
	HostInterface string       `json:"host_interface"`
	Interface     string       `json:"interface"` // inside
	MAC           string       `json:"mac"`
	Address       netip.Prefix `json:"address"`
	Gateway       netip.Addr   `json:"gateway"`
	DNS           []netip.Addr `json:"dns,omitempty"`
}

// NameServers lists the name servers that the sandbox can reach; none without
// a connection.
func (at *Attachment) NameServers() []string {
	if at == nil {
		return nil
	}
	out := make([]string, len(at.DNS))
	for i, server := range at.DNS {
		out[i] = server.String()
	}
	return out
}

// CheckPolicy says what is wrong with a policy, naming the request field.
func CheckPolicy(p faas.NetworkPolicy) error {
	switch p.Mode {
	case "", faas.NetworkNone:
		if len(p.Allow) > 0 {
			return faas.InvalidField("network.allow", "needs network.mode %q", faas.NetworkEgress)
		}
		return nil
	case faas.NetworkEgress:
	default:
		return faas.InvalidField("network.mode", "%.80q is neither %q nor %q", p.Mode, faas.NetworkNone, faas.NetworkEgress)
	}
	_, err := allowed(p)
	return err
}

func allowed(p faas.NetworkPolicy) ([]netip.Prefix, error) {
	if len(p.Allow) > maxAllow {
		return nil, faas.InvalidField("network.allow", "has %d entries; at most %d are possible", len(p.Allow), maxAllow)
	}
	list := make([]netip.Prefix, 0, len(p.Allow))
	for i, s := range p.Allow {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			addr, addrErr := netip.ParseAddr(s)
			if addrErr != nil {
				return nil, faas.InvalidField(fmt.Sprintf("network.allow[%d]", i), "%.80q is not a CIDR such as 203.0.113.0/24", s)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if !prefix.Addr().Is4() {
			return nil, faas.InvalidField(fmt.Sprintf("network.allow[%d]", i), "%q is IPv6, which sandboxes do not have", s)
		}
		list = append(list, prefix.Masked())
	}
	return list, nil
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// never lists what no policy can allow: this host, link-local addresses (most
// clouds' metadata), the metadata addresses outside them, and multicast.
func never() []netip.Prefix {
	return prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16",
		"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
		"224.0.0.0/4", "240.0.0.0/4")
}

// private lists what only an allow list opens.
func private() []netip.Prefix {
	return prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
		"192.0.0.0/24", "198.18.0.0/15")
}
