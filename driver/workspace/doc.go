// Package workspace is the part of the file system in which a driver keeps a
// directory and a record for each of its sandboxes, so that a daemon that is
// killed at any moment leaves nothing that the next one does not find.
//
// A record is written, whole, before anything else of a sandbox exists, and its
// directory is the last that goes. Sandboxes belong to an owner, a file that a
// living process keeps locked: what a dead owner left may be swept by anyone,
// what a living one has is nobody else's business.
package workspace
