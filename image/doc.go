// Package image is the local image store: it pulls images by OCI reference,
// imports root filesystem tars, OCI layouts and docker-save tars, unpacks
// every layer once, and hands the unpacked layers out as directories that are
// ready to be the lower layers of an overlay. It also makes the `host` image:
// this machine's own /usr below a small skeleton.
//
// # Sharing
//
// Any number of processes may have the same directory open. What must not be
// done twice or at the same time is guarded by flock(2), which the kernel
// releases when a process dies. Every directory and index file appears by
// rename, whole or not at all; what a dead process left half done is removed
// by the next Open or GC.
//
// # Leases
//
// Acquire leases the layers of an image. A lease without an owner ends with
// its process. A lease with an owner (the id of a sandbox, say) is a file that
// outlives the process: sandboxes go on while the daemon restarts, and the new
// daemon takes the lease up again by Resume or ends it by ReleaseOwner. No
// layer goes away while a lease names it.
//
// # Ownership
//
// Sandboxes have a user namespace of their own whose uid 0 is Options.UIDShift
// outside, so that root's store writes a file of uid N as UIDShift+N. A uid or
// gid outside 0..65535 becomes 65534 (nobody), since it would otherwise name a
// user of the host or of another range, and loses its setuid and setgid bits.
// A store that is not root's keeps every file as the caller's own; Limitations
// of the image says so. Layers are kept apart by ownership: a store that is
// opened with another shift unpacks anew.
//
// # What unpacking keeps and drops
//
// Kept: modes with setuid, setgid and sticky bits, modification times, user.*
// extended attributes, hard links, symbolic links, FIFOs. Dropped and counted
// in Limitations: device nodes (nothing in a user namespace may open them),
// every other extended attribute, among them security.capability (sandboxes
// run with no_new_privs, under which the kernel ignores file capabilities, and
// on the host they would be real privileges). Dropped silently: attributes of
// the overlay file system itself, which only the unpacker may set. Whiteouts
// become 0/0 character devices and opaque directories get user.overlay.opaque
// (trusted.overlay.opaque too where permitted), so that an overlay mounted
// with `userxattr` inside a user namespace honours them.
//
// A directory that a layer implies but does not list is made 0755 and owned
// by root, whatever a lower layer says of it, because layers are unpacked
// independently of their position.
package image
