//go:build unix && !linux

package agent

import (
	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

func space(string, wire.FileArgs) (guest.Space, error) {
	return guest.Space{}, faas.Unavailable("this agent does not run on Linux", "")
}
