package fake

import (
	"net/netip"
	"regexp"

	"github.com/faas-platform/faas"
)

// label is a DNS label, which ids and host names are.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// validate refuses what every driver refuses.
func validate(spec faas.Spec) error {
	r := spec.Resources
	switch {
	case !label.MatchString(spec.ID):
		return faas.InvalidField("id", "%q is not a DNS label", spec.ID)
	case spec.Hostname != "" && !label.MatchString(spec.Hostname):
		return faas.InvalidField("hostname", "%q is not a DNS label", spec.Hostname)
	case r.CPUCores < 0 || r.MemoryMB < 0 || r.DiskMB < 0 || r.PIDs < 0:
		return faas.InvalidField("resources", "limits cannot be negative: %+v", r)
	case spec.Network.Mode != faas.NetworkNone && spec.Network.Mode != faas.NetworkEgress && spec.Network.Mode != "":
		return faas.InvalidField("network.mode", "%q is not known", spec.Network.Mode)
	}
	for _, cidr := range spec.Network.Allow {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return faas.InvalidField("network.allow", "%q is not a CIDR", cidr)
		}
	}
	return nil
}
