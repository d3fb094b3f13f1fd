//go:build unix

package fake_test

import (
	"testing"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
	"github.com/faas-platform/faas/driver/drivertest/fake"
)

func TestConformance(t *testing.T) {
	var machine *fake.Machine
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver {
		if machine == nil {
			machine = fake.NewMachine(dir, faas.RuntimeNative)
		}
		return machine.Open()
	},
		drivertest.WithoutIsolation("the fake driver isolates nothing"),
		drivertest.WithoutProcesses("the fake driver's sandboxes live in this process"))
}
