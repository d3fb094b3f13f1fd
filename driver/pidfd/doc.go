// Package pidfd names processes of this machine so that the name never comes
// to mean another one, and watches and ends them by descriptors of the kernel.
// Drivers keep such names on disk: they survive the daemon and tell after a
// restart, of the daemon or the machine, whether the very process still runs.
package pidfd
