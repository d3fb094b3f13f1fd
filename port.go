package faas

import "time"

// PrefixPort begins the ids of exposed ports.
const PrefixPort = "port"

// PortProtocol says what is spoken on an exposed port.
type PortProtocol string

// PortHTTP and PortH2C are proxied by host name and by path: HTTP/1.1 with
// WebSockets and events, or HTTP/2 without TLS, as gRPC servers speak it.
// PortTCP gets a listener of its own on this machine and is passed on as it
// comes.
const (
	PortHTTP PortProtocol = "http"
	PortH2C  PortProtocol = "h2c"
	PortTCP  PortProtocol = "tcp"
)

// PortAccess says who may use an exposed port.
type PortAccess string

// PortKey asks for an API key of the project, PortPublic for nothing.
const (
	PortKey    PortAccess = "key"
	PortPublic PortAccess = "public"
)

// Port is a port of an instance that can be reached from outside. It goes with
// its instance.
type Port struct {
	ID         string       `json:"id"` // port-…
	Project    string       `json:"project"`
	InstanceID string       `json:"instance_id"`
	Port       int          `json:"internal_port"` // inside, on its loopback interface
	Protocol   PortProtocol `json:"protocol"`
	Access     PortAccess   `json:"access"`
	Subdomain  string       `json:"subdomain,omitempty"` // of PortHTTP and PortH2C; unique here
	HostPort   int          `json:"host_port,omitempty"` // of PortTCP, on this machine
	CreatedAt  time.Time    `json:"created_at"`
}
