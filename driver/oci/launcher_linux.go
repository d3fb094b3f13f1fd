package oci

import (
	"context"
	"os"

	"github.com/faas-platform/faas/driver/pidfd"
	"github.com/faas-platform/faas/guest/launch"
)

// launcher turns a plan into a running agent.
type launcher interface {
	name() string
	// start returns when the agent's socket takes connections. It calls
	// plan.placed and plan.confined on the way. When it fails, nothing of the
	// process is left, but what the plan's callbacks recorded.
	start(ctx context.Context, p *plan) (*pidfd.Handle, error)
	// remove undoes what start left on the host besides the process, which has
	// ended. It is called for sandboxes of earlier daemons too.
	remove(ctx context.Context, id, dir string) error
}

// inherited collects the descriptors that a process is started with.
type inherited struct {
	files []*os.File
	own   []*os.File // those to close once the process has them
}

// add returns the number that a file will have in the process. The file stays
// the caller's.
func (i *inherited) add(f *os.File) int {
	i.files = append(i.files, f)
	return launch.FirstFD + len(i.files) - 1
}

// give is add for a file that is closed by closeOwn.
func (i *inherited) give(f *os.File) int {
	i.own = append(i.own, f)
	return i.add(f)
}

func (i *inherited) closeOwn() {
	for _, f := range i.own {
		f.Close()
	}
	i.own = nil
}
