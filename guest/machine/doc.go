// Package machine is what the agent does besides when it is the init process
// of a microVM: it makes the sandbox of the drives that the host attached,
// before the agent begins (Main), and answers the host on a port of its own
// about what only the machine's kernel knows (Serve, Control).
//
// The host describes the sandbox in a Config, which is the content of one of
// the drives. Drives are known by their beginning and not by their order, which
// differs from one machine monitor to the next.
//
// The package is linked into the agent and so depends on little.
package machine
