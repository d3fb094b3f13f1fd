package microvm

import (
	"context"
	"os"
)

// monitor is a program that runs virtual machines: what differs between them.
type monitor interface {
	// name is the program's.
	name() string
	// command returns the arguments of a process that boots a machine, or waits
	// to be given the state of one; inherit are files that it gets as
	// descriptors 3 and following.
	command(m *configuration) (args []string, inherit []*os.File, err error)
	// connect opens the program's own control socket, once it is there.
	connect(ctx context.Context, m *configuration) (control, error)
}

// control is a monitor's own control of one machine.
type control interface {
	// stop and run make the machine stand still and go on.
	stop(ctx context.Context) error
	run(ctx context.Context) error
	// save writes the state of a machine that stands still, memory included,
	// into a file.
	save(ctx context.Context, to *os.File) error
	// loaded waits until a machine that was given a state has it, and stands
	// still.
	loaded(ctx context.Context) error
	close() error
}

// configuration is one machine.
type configuration struct {
	dir      string // its files; the sockets have short names in it
	kernel   string
	initial  string
	cores    int
	memoryMB int64
	drives   []drive // the configuration's first
	tap      *tap
	state    *os.File // not nil: a state to go on from
}

// drive is a file that the machine sees as a block device.
type drive struct {
	path     string
	readOnly bool
}

// tap is the host's end of the machine's network interface.
type tap struct {
	name string
	mac  string
}

// Names in a machine's directory.
const (
	consoleFile = "console" // what its kernel printed, the first and only part that is kept
	controlSock = "m"       // the monitor's own socket
	streamSock  = "s"       // followed by the number of a port
)

// arguments that every machine's kernel gets.
const kernelArguments = "console=ttyS0 quiet loglevel=5 panic=-1 reboot=t random.trust_cpu=on mitigations=off rdinit=/init"
