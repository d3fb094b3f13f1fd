package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// ruleset names the objects in the kernel. The table is the platform's own: it
// never touches another's rules. Its forward chain runs before those of
// others; an accept here does not overrule a drop there, which is why Probe
// sends a real packet through.
type ruleset struct {
	table                       *nftables.Table
	forward, input, postrouting *nftables.Chain
	sandboxes                   *nftables.Set // host interface → its sandbox's chain
}

func newRuleset() *ruleset {
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: "faas"}
	accept := nftables.ChainPolicyAccept
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook, Priority: &priority, Policy: &accept}
	}
	return &ruleset{
		table:       t,
		forward:     base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, -5),
		input:       base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, -5),
		postrouting: base("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource),
		sandboxes: &nftables.Set{
			Table: t, Name: "sandboxes", IsMap: true,
			KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict,
		},
	}
}

func (r *ruleset) sandboxChain(hostInterface string) *nftables.Chain {
	return &nftables.Chain{Table: r.table, Name: "sandbox-" + hostInterface}
}

func (n *Network) rules() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.host)))
	if err != nil {
		return nil, faas.Unavailable("the kernel's packet filter cannot be reached: "+err.Error(), "load the nf_tables kernel module")
	}
	return c, nil
}

// ensureRules writes the rules that all sandboxes share, in one transaction:
// flushed and filled again, so that doing it twice, or in two processes at
// once, leaves the same.
func (n *Network) ensureRules() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready {
		return nil
	}
	c, err := n.rules()
	if err != nil {
		return err
	}
	r := n.set
	c.AddTable(r.table)
	if err := c.AddSet(r.sandboxes, nil); err != nil {
		return fmt.Errorf("declare map of sandboxes: %w", err)
	}
	refused := &nftables.Chain{Table: r.table, Name: refusal}
	for _, chain := range []*nftables.Chain{refused, r.forward, r.input, r.postrouting} {
		c.AddChain(chain)
		c.FlushChain(chain)
	}
	add := func(chain *nftables.Chain, exprs ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: n.set.table, Chain: chain, Exprs: join(exprs...)})
	}
	for _, exprs := range rejections() {
		add(refused, exprs)
	}
	add(r.forward, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: r.sandboxes.Name, IsDestRegSet: true, DestRegister: 0},
	})
	add(r.forward, nameStarts(expr.MetaKeyIIFNAME, expr.CmpOpEq), reject())
	add(r.forward, nameStarts(expr.MetaKeyOIFNAME, expr.CmpOpEq), established(), verdict(expr.VerdictAccept))
	add(r.forward, nameStarts(expr.MetaKeyOIFNAME, expr.CmpOpEq), verdict(expr.VerdictDrop))
	add(r.input, nameStarts(expr.MetaKeyIIFNAME, expr.CmpOpEq), reject())
	// By interface, not by address: installations of other prefixes share the rule.
	add(r.postrouting, family(expr.CmpOpEq), nameStarts(expr.MetaKeyIIFNAME, expr.CmpOpEq),
		nameStarts(expr.MetaKeyOIFNAME, expr.CmpOpNeq), []expr.Any{&expr.Masq{}})
	if err := c.Flush(); err != nil {
		return faas.Unavailable("the kernel refuses the packet rules: "+err.Error(), "load the nf_tables, nft_chain_nat and nft_masq kernel modules")
	}
	n.ready = true
	return nil
}

func (n *Network) addSandboxRules(at *Attachment, allow []netip.Prefix) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.rules()
	if err != nil {
		return err
	}
	chain := n.set.sandboxChain(at.HostInterface)
	c.AddChain(chain)
	c.FlushChain(chain) // a slot's last owner may have died
	add := func(exprs ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: n.set.table, Chain: chain, Exprs: join(exprs...)})
	}
	own := netip.PrefixFrom(at.Address.Addr(), 32)
	add(family(expr.CmpOpNeq), verdict(expr.VerdictDrop))
	add(source(own, false), verdict(expr.VerdictDrop))
	add(established(), verdict(expr.VerdictAccept))
	// Sandboxes of every installation, whatever their addresses.
	add(nameStarts(expr.MetaKeyOIFNAME, expr.CmpOpEq), reject())
	for _, resolver := range at.DNS {
		for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			add(destination(netip.PrefixFrom(resolver, 32)), port(protocol, 53), verdict(expr.VerdictAccept))
		}
	}
	for _, p := range append(never(), n.opts.Prefix) {
		add(destination(p), reject())
	}
	if len(allow) > 0 {
		for _, p := range allow {
			add(destination(p), verdict(expr.VerdictAccept))
		}
		add(reject())
	} else {
		for _, p := range private() {
			add(destination(p), reject())
		}
		add(verdict(expr.VerdictAccept))
	}
	element := nftables.SetElement{
		Key:         interfaceKey(at.HostInterface),
		VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain.Name},
	}
	if err := c.SetAddElements(n.set.sandboxes, []nftables.SetElement{element}); err != nil {
		return fmt.Errorf("rules of %s: %w", at.HostInterface, err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("rules of %s: %w", at.HostInterface, err)
	}
	return nil
}

// removeSandboxRules forgets an interface's rules; it is no error when they
// are gone.
func (n *Network) removeSandboxRules(hostInterface string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, err := n.rules()
	if err != nil {
		return err
	}
	element := []nftables.SetElement{{Key: interfaceKey(hostInterface)}}
	if err := c.SetDeleteElements(n.set.sandboxes, element); err != nil {
		return fmt.Errorf("forget %s: %w", hostInterface, err)
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget %s: %w", hostInterface, err)
	}
	chain := n.set.sandboxChain(hostInterface)
	c.FlushChain(chain)
	c.DelChain(chain)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove rules of %s: %w", hostInterface, err)
	}
	return nil
}

// sweepRules removes the chains of interfaces that are gone.
func (n *Network) sweepRules() error {
	c, err := n.rules()
	if err != nil {
		return err
	}
	chains, err := c.ListChainsOfTableFamily(n.set.table.Family)
	if err != nil {
		return fmt.Errorf("list packet rules: %w", err)
	}
	var errs []error
	for _, chain := range chains {
		name, ours := strings.CutPrefix(chain.Name, "sandbox-")
		if chain.Table.Name != n.set.table.Name || !ours {
			continue
		}
		if _, valid := parseSlot(name); !valid {
			continue
		}
		var gone netlink.LinkNotFoundError
		if _, err := n.handle.LinkByName(name); errors.As(err, &gone) {
			errs = append(errs, n.removeSandboxRules(name))
		}
	}
	return errors.Join(errs...)
}

func join(lists ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func interfaceKey(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// nameStarts compares the start of an interface's name with hostPrefix.
func nameStarts(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte(hostPrefix)},
	}
}

func family(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
	}
}

// source and destination compare an address in the IPv4 header.
func source(p netip.Prefix, equal bool) []expr.Any {
	op := expr.CmpOpEq
	if !equal {
		op = expr.CmpOpNeq
	}
	return append(family(expr.CmpOpEq), address(12, p, op)...)
}

func destination(p netip.Prefix) []expr.Any { return address(16, p, expr.CmpOpEq) }

func address(offset uint32, p netip.Prefix, op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func port(protocol byte, number uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func verdict(kind expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind}}
}

// refusal is the chain that answers what is refused.
const refusal = "refusal"

func reject() []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: refusal}}
}

// rejections are the rules of the refusal chain: a connection is reset, since
// the kernel sends only so many ICMP messages a second, and everything else is
// answered "administratively prohibited".
func rejections() [][]expr.Any {
	return [][]expr.Any{
		{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		},
		{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}},
	}
}
