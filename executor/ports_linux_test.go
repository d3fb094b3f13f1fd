package executor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/faas-platform/faas"
)

// echoServer listens on loopback, which a fake machine's sandboxes share with
// this one, and answers what it hears, in brackets, once that has ended.
func echoServer(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) //nolint:errcheck // over
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // over
				heard, _ := io.ReadAll(c)
				fmt.Fprintf(c, "[%s]", heard)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

func ask(t *testing.T, port int, what string) (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer c.Close()               //nolint:errcheck // over
	io.WriteString(c, what)       //nolint:errcheck // seen in the answer
	c.(*net.TCPConn).CloseWrite() //nolint:errcheck // seen in the answer
	answer, err := io.ReadAll(c)
	return string(answer), err
}

func TestTCPPort(t *testing.T) {
	m := newSaving(t)
	e := residents(t, m, nil)
	x := create(t, e, faas.InstanceRequest{})
	p, err := e.ExposePort(t.Context(), faas.Port{InstanceID: x.ID, Port: echoServer(t), Protocol: faas.PortTCP, Access: faas.PortPublic})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, p.HostPort, "hello"); got != "[hello]" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if list, err := e.Ports(t.Context(), "", x.ID); err != nil || len(list) != 1 || list[0] != *p {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := e.Port(t.Context(), "other", p.ID); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
	if err := e.DeleteInstance(t.Context(), "", x.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, p.HostPort, "hello"); err == nil {
		t.Error("the port outlives its instance")
	}
	if list, err := e.Ports(t.Context(), "", ""); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A TCP port comes back with its number when the next process takes over.
func TestTCPPortSurvives(t *testing.T) {
	m, dir := newSaving(t), t.TempDir()
	first := newExecutor(t, m, func(o *Options) { o.DataDir = dir })
	x := create(t, first, faas.InstanceRequest{})
	p, err := first.ExposePort(t.Context(), faas.Port{InstanceID: x.ID, Port: echoServer(t), Protocol: faas.PortTCP, Access: faas.PortPublic})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, p.HostPort, "x"); err == nil {
		t.Error("the port is open without its process")
	}
	second := residents(t, m, func(o *Options) { o.DataDir = dir })
	if got, err := ask(t, p.HostPort, "again"); got != "[again]" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := second.ClosePort(t.Context(), "", p.ID); err != nil {
		t.Error(err)
	}
	if _, err := ask(t, p.HostPort, "x"); err == nil {
		t.Error("the port is open still")
	}
}

func TestExposePortRefuses(t *testing.T) {
	e := residents(t, newSaving(t), nil)
	x := create(t, e, faas.InstanceRequest{})
	taken := faas.Port{InstanceID: x.ID, Port: 80, Subdomain: "taken"}
	if _, err := e.ExposePort(t.Context(), taken); err != nil {
		t.Fatal(err)
	}
	for want, p := range map[string]faas.Port{
		"internal_port": {InstanceID: x.ID},
		"access":        {InstanceID: x.ID, Port: 80, Access: "friends"},
		"protocol":      {InstanceID: x.ID, Port: 80, Protocol: "udp"},
		"subdomain":     {InstanceID: x.ID, Port: 80, Subdomain: "No"},
		"tcp by key":    {InstanceID: x.ID, Port: 80, Protocol: faas.PortTCP},
		"taken":         taken,
		"instance":      {InstanceID: faas.NewID(faas.PrefixInstance), Port: 80},
		"project":       {InstanceID: x.ID, Port: 80, Project: "other"},
	} {
		if _, err := e.ExposePort(t.Context(), p); err == nil {
			t.Errorf("%s is not refused", want)
		}
	}
	if p, err := e.PortOf(t.Context(), "taken"); err != nil || p.Port != 80 || p.Access != faas.PortKey || p.Protocol != faas.PortHTTP {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := e.PublicPort(t.Context(), x.ID, 80); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("by key: %v", err)
	}
	if _, err := e.PortOf(t.Context(), ""); !errors.Is(err, faas.ErrNotFound) {
		t.Error(err)
	}
}
