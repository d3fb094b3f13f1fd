package main

import (
	"strings"
	"testing"

	"github.com/faas-platform/faas/api"
)

func TestDrawTree(t *testing.T) {
	leaf := func(id string, children ...*api.SnapshotNode) *api.SnapshotNode {
		return &api.SnapshotNode{Snapshot: api.Snapshot{ID: id, Kind: "fs", SizeBytes: 1024}, Children: children}
	}
	left := leaf("left", leaf("deep"))
	left.Branches, left.Name = []string{"main", "old"}, "warm"
	var out strings.Builder
	drawTree(&out, leaf("root", left, leaf("right")), "", "")
	want := `root  fs  1.0 KiB
├── left  fs  1.0 KiB  warm  [main]  [old]
│   └── deep  fs  1.0 KiB
└── right  fs  1.0 KiB
`
	if out.String() != want {
		t.Errorf("drawn:\n%s", out.String())
	}
}
