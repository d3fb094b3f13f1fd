// Package sshd is the SSH front door: an SSH server in front of every instance
// on every runtime. Its user names are instances; it proves who connects,
// wakes the instance, and carries everything else over the guest protocol, so
// that an instance needs neither a network nor a server of its own.
//
// Terminals, commands, files (SFTP) and forwarded ports are those of the
// sandbox. Nothing of it is done on the host.
//
// # Bounds
//
// Whoever has not proved who they are has a limited time, number of bytes and
// number of connections, each address for itself and all together; addresses
// that fail are made to wait and then refused for a while. Whoever has is
// bounded in connections for a key, and in channels, forwarded ports and
// variables for a connection.
package sshd
