//go:build !linux

package conformance

import (
	"io/fs"
	"path/filepath"
	"strings"
)

// machineLeftovers lists the files below stateDir that carry id. Sandboxes
// themselves run on another machine or in a virtual one here.
func machineLeftovers(id, stateDir string) []string {
	var left []string
	if stateDir == "" {
		return nil
	}
	filepath.WalkDir(stateDir, func(path string, d fs.DirEntry, err error) error { //nolint:errcheck // what cannot be read is skipped
		if err == nil && strings.Contains(d.Name(), id) {
			left = append(left, "file "+path)
		}
		return nil
	})
	return left
}
