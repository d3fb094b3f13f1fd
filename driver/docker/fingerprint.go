package docker

import (
	"fmt"
	"os"
	"strings"
)

// Fingerprint names what the answer of Probe depends on: the engine's address,
// and its socket where it has one here, which a restarted engine makes anew.
func (d *Driver) Fingerprint() string {
	ep, err := resolveEndpoint(d.opts.Host, d.opts.Context)
	if err != nil {
		return err.Error()
	}
	out := fmt.Sprintf("%s %s %v", ep.host, ep.source, d.opts.ForceRemote)
	if path, local := strings.CutPrefix(ep.host, "unix://"); local {
		info, err := os.Stat(path)
		if err != nil {
			return out + " no socket"
		}
		out += fmt.Sprintf(" %d", info.ModTime().UnixNano())
	}
	return out
}
