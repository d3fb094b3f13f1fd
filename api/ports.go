package api

import (
	"time"

	"github.com/faas-platform/faas"
)

// Paths of exposed ports.
const (
	PathPorts  = "/api/v1/ports"
	PathExpose = "/api/v1/ports/expose"
)

// ExposeRequest lets a port of an instance be reached.
type ExposeRequest struct {
	InstanceID   string            `json:"instance_id" maxLength:"128" doc:"Id of the instance, or its name."`
	ContainerID  string            `json:"container_id,omitempty" maxLength:"128" alias:"instance_id" doc:"Alias of instance_id, for older clients."`
	InternalPort int               `json:"internal_port" minimum:"1" maximum:"65535" doc:"Port inside, on its loopback interface." example:"8000"`
	Protocol     faas.PortProtocol `json:"protocol,omitempty" enum:"http,h2c,tcp" doc:"http (default): HTTP/1.1, WebSockets and events. h2c: HTTP/2 without TLS to the program inside, for gRPC. tcp: a port of the server's machine, passed on as it comes."`
	Subdomain    string            `json:"subdomain,omitempty" maxLength:"63" doc:"A DNS label, unique on the server. Default: the port and the instance's id." example:"notebook"`
	Access       faas.PortAccess   `json:"access,omitempty" enum:"key,public" doc:"key (default): with an API key of the project. public: with nothing; tcp knows only that."`
}

// Port is an exposed port.
type Port struct {
	ID           string            `json:"id" example:"port-0c7v4g6k1w0003f9a2m5d8r1t6"`
	InstanceID   string            `json:"instance_id"`
	InternalPort int               `json:"internal_port" example:"8000"`
	Protocol     faas.PortProtocol `json:"protocol"`
	Access       faas.PortAccess   `json:"access"`
	Subdomain    string            `json:"subdomain,omitempty" example:"notebook"`
	HostPort     int               `json:"host_port,omitempty" doc:"tcp: of the server's machine."`
	PublicURL    string            `json:"public_url" example:"http://notebook.localhost:8080/"`
	Path         string            `json:"path,omitempty" doc:"The same below the API, for programs: with a key, on the API's own host name." example:"/api/v1/instances/inst-0c7v4g6k1w0003f9a2m5d8r1t6/ports/8000/"`
	CreatedAt    time.Time         `json:"created_at"`
}

// PortList is the ports of a project or an instance.
type PortList struct {
	Ports []Port `json:"ports"`
}
