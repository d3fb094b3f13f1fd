// Package sshkey looks after the keys of SSH: those that users log in with,
// the certificates that the server signs and those of trusted authorities, and
// the keys by which the server itself is known.
//
// The private part of a user's key is returned once, when it is made, and kept
// by nobody here. The server's own private keys, those of its host and of its
// certificate authority, are files that only its user can read.
package sshkey
