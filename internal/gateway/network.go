package gateway

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/faas-platform/faas"
)

// checkNetwork refuses a policy that says nothing or contradicts itself.
func checkNetwork(policy faas.NetworkPolicy) error {
	switch policy.Mode {
	case faas.NetworkNone:
		if len(policy.Allow) > 0 {
			return errors.New("allow goes with the mode egress only")
		}
	case faas.NetworkEgress:
	default:
		return fmt.Errorf("there is no mode %q: none and egress are", policy.Mode)
	}
	for _, cidr := range policy.Allow {
		if _, err := netip.ParsePrefix(cidr); err != nil {
			return fmt.Errorf("allow: %q is not a network in CIDR form", cidr)
		}
	}
	return nil
}
