//go:build !linux

package docker

import (
	"context"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
)

func errNoMemory() error {
	return faas.Unavailable(memoryElsewhere, besideRemedy)
}

func canRestoreMemory(string) error { return errNoMemory() }

func placeCheckpoint(context.Context, string, string, string) (func() error, error) {
	return nil, errNoMemory()
}

func (s *sandbox) forking() (bool, error)        { return false, errNoMemory() }
func (s *sandbox) stoppedBefore() ([]int, error) { return nil, errNoMemory() }
func (s *sandbox) stopOthers() error             { return errNoMemory() }
func (s *sandbox) continueOthers([]int) error    { return nil } // none was ever stopped
func (s *sandbox) rename() error                 { return errNoMemory() }

func criuLog(string) string { return "" }

func (s *sandbox) requirements(string) (driver.Requirements, error) {
	return driver.Requirements{}, errNoMemory()
}

func checkRequirements(driver.Requirements) error { return errNoMemory() }
