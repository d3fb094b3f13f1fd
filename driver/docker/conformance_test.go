package docker

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/driver/drivertest"
)

// TestConformance runs the suite on the engine of the environment, first by
// the way past the engine where there is one.
func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T, dir string) driver.Driver { return openAt(t, dir, false) }, drivertest.WithLeftovers(containersOf))
}

// openAt opens a driver that the suite closes.
func openAt(t *testing.T, dir string, remote bool) *Driver {
	t.Helper()
	d, err := New(Options{Dir: dir, ForceRemote: remote})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// containersOf lists what the engine still has of a sandbox.
func containersOf(ctx context.Context, id string) ([]string, error) {
	e := newEngine(os.Getenv("DOCKER_HOST"), "")
	defer e.close() //nolint:errcheck // nothing is under way
	var left []string
	err := e.call(ctx, 10*time.Second, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerList(ctx, client.ContainerListOptions{
			All: true, Filters: make(client.Filters).Add("label", LabelSandbox+"="+id),
		})
		for _, c := range res.Items {
			left = append(left, "container "+c.ID[:12]+" "+c.Status)
		}
		return err
	})
	return left, err
}
