package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// netlink is a route socket. It knows the four requests that a sandbox's
// network takes; a library for all of them would be larger than the agent.
type netlink struct {
	fd  int
	seq uint32
}

func openNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	n := &netlink{fd: fd}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *netlink) close() { unix.Close(n.fd) } //nolint:errcheck // every answer has been read

func attribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// request sends one request and waits for the kernel's word.
func (n *netlink) request(kind, flags uint16, body []byte) error {
	n.seq++
	msg := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	msg = binary.NativeEndian.AppendUint16(msg, kind)
	msg = binary.NativeEndian.AppendUint16(msg, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	msg = binary.NativeEndian.AppendUint32(msg, n.seq)
	msg = binary.NativeEndian.AppendUint32(msg, 0)
	if err := unix.Sendto(n.fd, append(msg, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	buf := make([]byte, 8<<10)
	for {
		size, _, err := unix.Recvfrom(n.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b := buf[:size]
		if len(b) < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint32(b[8:]) != n.seq {
			continue
		}
		if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
			continue
		}
		if code := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); code != 0 {
			return unix.Errno(-code)
		}
		return nil
	}
}

// linkMessage is a struct ifinfomsg.
func linkMessage(index int, flags, change uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func indexOf(name string) (int, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("no interface %q: %w", name, err)
	}
	return i.Index, nil
}

func (n *netlink) linkUp(name string) error {
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	return n.request(unix.RTM_NEWLINK, 0, linkMessage(index, unix.IFF_UP, unix.IFF_UP))
}

// setMAC takes the interface down, as some drivers want it.
func (n *netlink) setMAC(name, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return err
	}
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	if err := n.request(unix.RTM_NEWLINK, 0, linkMessage(index, 0, unix.IFF_UP)); err != nil {
		return err
	}
	return n.request(unix.RTM_NEWLINK, 0, attribute(linkMessage(index, 0, 0), unix.IFLA_ADDRESS, hw))
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (n *netlink) addAddress(name, cidr string) error {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return err
	}
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	addr := prefix.Addr().Unmap()
	body := make([]byte, unix.SizeofIfAddrmsg)
	body[0], body[1] = family(addr), byte(prefix.Bits())
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	if addr.Is6() {
		body[2] = unix.IFA_F_NODAD
	}
	body = attribute(body, unix.IFA_LOCAL, addr.AsSlice())
	body = attribute(body, unix.IFA_ADDRESS, addr.AsSlice())
	err = n.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// addGateway makes an address the way to everywhere.
func (n *netlink) addGateway(name, gateway string) error {
	addr, err := netip.ParseAddr(gateway)
	if err != nil {
		return err
	}
	index, err := indexOf(name)
	if err != nil {
		return err
	}
	addr = addr.Unmap()
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[4], body[5] = family(addr), unix.RT_TABLE_MAIN, unix.RTPROT_STATIC
	body[6], body[7] = unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	body = attribute(body, unix.RTA_GATEWAY, addr.AsSlice())
	body = attribute(body, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index)))
	return n.request(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body)
}
