package gateway

import (
	"context"
	"net"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// Ports is what the gateway needs of exposed ports.
type Ports interface {
	ExposePort(ctx context.Context, p faas.Port) (*faas.Port, error)
	Ports(ctx context.Context, project, instanceID string) ([]faas.Port, error)
	Port(ctx context.Context, project, id string) (*faas.Port, error)
	ClosePort(ctx context.Context, project, id string) error
	PortOf(ctx context.Context, subdomain string) (*faas.Port, error)
	PublicPort(ctx context.Context, instanceID string, port int) (*faas.Port, error)
	DialPort(ctx context.Context, project, id string, port int) (net.Conn, error)
}

type portInput struct {
	ID string `path:"id" maxLength:"64" doc:"Id of the exposed port." example:"port-0c7v4g6k1w0003f9a2m5d8r1t6"`
}

type portsInput struct {
	Instance string `query:"instance_id" maxLength:"128" doc:"Only those of this instance: its id or name."`
}

var examplePort = &api.Port{
	ID: "port-0c7v4g6k1w0003f9a2m5d8r1t6", InstanceID: "inst-0c7v4g6k1w0003f9a2m5d8r1t6", InternalPort: 8000, Protocol: faas.PortHTTP,
	Access: faas.PortKey, Subdomain: "notebook", PublicURL: "http://notebook.localhost:8080/",
	Path: "/api/v1/instances/inst-0c7v4g6k1w0003f9a2m5d8r1t6/ports/8000/", CreatedAt: exampleTime,
}

func (g *Gateway) registerPorts() {
	op := func(id, method, path, summary, description string, failures ...int) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Tags: []string{"ports"}, Summary: summary, Description: description, Errors: failures}
	}
	handleBody(g, op("expose-port", http.MethodPost, api.PathExpose, "Let a port of an instance be reached",
		"By host name (`public_url`), and below the API (`path`). It works where the instance has no network, wakes it when someone connects, and goes with it. `tcp` opens a port of the server's machine on its loopback address instead.",
		changeErrors...),
		map[string]any{
			"http": map[string]any{"instance_id": "inst-0c7v4g6k1w0003f9a2m5d8r1t6", "internal_port": 8000, "subdomain": "notebook"},
			"tcp":  map[string]any{"instance_id": "inst-0c7v4g6k1w0003f9a2m5d8r1t6", "internal_port": 5432, "protocol": "tcp", "access": "public"},
		}, examplePort, g.exposePort)
	handle(g, op("list-ports", http.MethodGet, api.PathPorts, "List the project's exposed ports", "", readErrors...),
		api.PortList{Ports: []api.Port{*examplePort}}, g.listPorts)
	handle(g, op("get-port", http.MethodGet, api.PathPorts+"/{id}", "Show one exposed port", "", readErrors...), examplePort,
		func(ctx context.Context, in *portInput) (*api.Port, error) {
			p, err := g.opts.Executor.Port(ctx, identity(ctx).Project, in.ID)
			if err != nil {
				return nil, err
			}
			return g.portOf(ctx, p), nil
		})
	handle(g, op("close-port", http.MethodDelete, api.PathPorts+"/{id}", "End the exposure of a port", "Connections that are open go on.", readErrors...),
		api.Removed{Removed: []string{examplePort.ID}}, func(ctx context.Context, in *portInput) (api.Removed, error) {
			return api.Removed{Removed: []string{in.ID}}, g.opts.Executor.ClosePort(ctx, identity(ctx).Project, in.ID)
		})
	g.registerPortProxy(op("proxy-port", http.MethodGet, portPath, "Reach a port of an instance below the API",
		"Every method, WebSockets and streams included, to whatever listens on the port inside, exposed or not; a public one needs no key. What comes back is the program's own. "+
			"Its pages are sandboxed here and keep no cookies: browsers use the host name of an exposed port.", changeErrors...))
}

func (g *Gateway) exposePort(ctx context.Context, _ *struct{}, in *api.ExposeRequest) (*api.Port, error) {
	id, err := g.instanceID(ctx, in.InstanceID)
	if err != nil {
		return nil, err
	}
	p, err := g.opts.Executor.ExposePort(ctx, faas.Port{
		Project: identity(ctx).Project, InstanceID: id, Port: in.InternalPort, Protocol: in.Protocol, Subdomain: in.Subdomain, Access: in.Access,
	})
	if err != nil {
		return nil, err
	}
	return g.portOf(ctx, p), nil
}

func (g *Gateway) listPorts(ctx context.Context, in *portsInput) (api.PortList, error) {
	list := api.PortList{Ports: []api.Port{}}
	id := ""
	if in.Instance != "" {
		var err error
		if id, err = g.instanceID(ctx, in.Instance); err != nil {
			return list, err
		}
	}
	found, err := g.opts.Executor.Ports(ctx, identity(ctx).Project, id)
	for i := range found {
		list.Ports = append(list.Ports, *g.portOf(ctx, &found[i]))
	}
	return list, err
}

// portOf puts a port into the form of the wire, with the address at which the
// caller of ctx reaches it.
func (g *Gateway) portOf(ctx context.Context, p *faas.Port) *api.Port {
	out := &api.Port{
		ID: p.ID, InstanceID: p.InstanceID, InternalPort: p.Port, Protocol: p.Protocol, Access: p.Access,
		Subdomain: p.Subdomain, HostPort: p.HostPort, CreatedAt: p.CreatedAt,
	}
	if p.Protocol == faas.PortTCP {
		out.PublicURL = "tcp://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(p.HostPort))
		return out
	}
	out.Path = api.PathInstances + "/" + p.InstanceID + "/ports/" + strconv.Itoa(p.Port) + "/"
	scheme, host := "http", p.Subdomain+"."+g.opts.PortDomain
	if x, ok := ctx.Value(exchangeKey{}).(exchange); ok {
		if x.r.TLS != nil {
			scheme = "https"
		}
		if _, port, err := net.SplitHostPort(x.r.Host); err == nil {
			host = net.JoinHostPort(host, port)
		}
	}
	out.PublicURL = scheme + "://" + host + "/"
	return out
}
