package api

import "github.com/faas-platform/faas"

// Routes of what moves, checks and frees snapshots, below PathSnapshots.
const (
	PathSnapshotImport = PathSnapshots + "/import"
	PathSnapshotVerify = PathSnapshots + "/verify"
	PathSnapshotGC     = PathSnapshots + "/gc"
	PathSnapshotKey    = PathSnapshots + "/key"
)

// SnapshotStream is the media type of an exported snapshot.
const SnapshotStream = "application/vnd.faas.snapshot"

// SnapshotVerify says which snapshots are read and compared.
type SnapshotVerify struct {
	IDs []string `json:"ids,omitempty" maxItems:"1000" doc:"Snapshots to verify, with the layers below them. Default: all of the project."`
}

// SnapshotVerified is what verifying found.
type SnapshotVerified struct {
	Problems []faas.SnapshotProblem `json:"problems" doc:"Empty: every byte is what was saved."`
}

// SnapshotCollected is what collecting freed.
type SnapshotCollected struct {
	FreedBytes int64 `json:"freed_bytes" doc:"In the cold tier."`
}

// SnapshotKey is the key that an installation signs its exports with.
type SnapshotKey struct {
	PublicKey string `json:"public_key" doc:"For snapshots.trusted_keys of another installation." example:"pLkxYmWfZ0r8J0m0mJqVJc3s1m9l3cQw3J0m2bq3m0E="`
}
