// Package ssh tests the SSH server from outside, through the real program and
// with OpenSSH's own programs, against instances of every runtime that works
// here. FAAS_SSH_CONNECTS sets how many connections the test for leaks makes.
package ssh
