// Package oci makes sandboxes of Linux namespaces: the native runtime.
//
// One description, an OCI runtime configuration, is made for every sandbox;
// one of three launchers turns it into processes. `builtin` needs no program
// but the agent's own executable (package guest/launch is its inner half),
// works for root and for plain users, and is taken where it works; elsewhere
// root gets the faster of `crun` and `runc`, measured once after the machine's
// start. Each can also be asked for by name.
//
// # Where a sandbox lives
//
// A sandbox has a directory, DIR/sandboxes/ID, that appears whole with its
// record in it before anything else is made, a control group faas/ID where the
// machine lets us have one, and a process whose namespaces hold all its
// mounts. The record names an owner: a file that a living process keeps
// locked. Whatever has an owner that nobody locks was left by a dead process,
// and Sweep removes it unless it is asked to keep it for Recover.
//
// # Isolation
//
// Every sandbox has user, mount, process, network, IPC, host name and control
// group namespaces. As root, its ids 0 to 65535 are host ids that belong to
// nobody; as a plain user they come from /etc/subuid, or else root inside is
// that user. The agent holds the capabilities of AgentCapabilities, inside the
// user namespace only; no_new_privs is set, and a seccomp filter made of the
// Moby project's default profile is loaded before the agent starts.
//
// /proc is the sandbox's own and is not masked by further mounts: what is
// dangerous there belongs to the host's root, whom the user namespace does not
// contain, so that opening it fails with EACCES; the tests hold the list. /sys
// is empty. /dev has null, zero, full, random, urandom, tty, pts, ptmx and shm.
// A sandbox has at most eight mounts, since a checkpoint pays for each.
package oci
