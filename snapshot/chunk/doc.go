// Package chunk is the cold tier's store: byte streams cut into pieces by
// their content, each kept once, compressed, verified whenever it is read, and
// encrypted when a key is given.
//
// A piece is named by the digest of what it holds, so the same content is
// stored once however many snapshots hold it, and a piece that does not hold
// what its name says is never handed out. With a key the name is a keyed
// digest: it tells nobody what a piece holds.
package chunk
