package main

type snapshotCommand struct {
	Export exportSnapshotCommand   `cmd:"" help:"Write a snapshot as one file for another machine."`
	Import importSnapshotCommand   `cmd:"" help:"Take in an exported snapshot."`
	Verify verifySnapshotCommand   `cmd:"" help:"Read all that snapshots hold and compare it with what was saved."`
	GC     collectSnapshotsCommand `cmd:"" name:"gc" help:"Free what no snapshot and no sandbox needs."`
	Key    snapshotKeyCommand      `cmd:"" help:"Print the key that exports are signed with, for snapshots.trusted_keys elsewhere."`
}
