// Package guest is how the host speaks to the agent inside a sandbox: the
// wire protocol (shared with guest/agent) and the host's client.
//
// Everything that happens inside a sandbox is written once, here and in
// guest/agent; drivers only hand over connections.
//
// # Streams
//
// Where a transport has many connections (a unix socket, vsock), every
// operation has a connection of its own. Where it has one, the same streams
// are carried by a multiplexer with flow control per stream. Either way a
// stream that its reader neglects holds up nothing but its own source.
//
// # Opening
//
// Both ends prove, by HMAC over fresh nonces, that they know the sandbox's
// secret before anything else is said, and agree on a protocol version: each
// end names the oldest and the newest that it speaks, and the newest that both
// know is used. Old snapshots hold old agents, so a host speaks every version
// that it ever shipped.
package guest
