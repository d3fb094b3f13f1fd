// Package microvm is the driver of sandboxes that are virtual machines of their
// own, with a kernel of their own: by QEMU's microvm machine, with KVM where it
// works and in software where it does not.
//
// A machine boots a distribution's kernel with an initial file system that
// holds the agent and the kernel's modules, and nothing else. The agent is its
// init process: it makes the sandbox of the drives (package guest/machine) and
// serves the host on virtio-serial ports. The image is a read-only squashfs,
// made once for its content, below a private disk for the machine's changes.
//
// All processes of a machine are in one control group and all its files in one
// directory: killing the group and removing the directory removes the machine.
package microvm
