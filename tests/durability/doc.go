// Package durability holds the test that interrupts the making, restoring and
// keeping of snapshots: the daemon, CRIU or gVisor's program is killed at a
// random moment of a chosen phase, or the disk is filled. Whatever was
// acknowledged must then restore with the right content, and of all else
// nothing may be left.
package durability
