package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/faas-platform/faas/api"
)

// drawTree draws a snapshot and what descends from it: first comes before its
// own line, rest before those below.
func drawTree(w io.Writer, node *api.SnapshotNode, first, rest string) {
	fmt.Fprintln(w, first+nodeText(node))
	for i, child := range node.Children {
		if i == len(node.Children)-1 {
			drawTree(w, child, rest+"└── ", rest+"    ")
			continue
		}
		drawTree(w, child, rest+"├── ", rest+"│   ")
	}
}

// nodeText is a snapshot on one line: id, kind, size, name and branches.
func nodeText(node *api.SnapshotNode) string {
	parts := []string{node.ID, string(node.Kind), bytesText(node.SizeBytes)}
	if node.Name != "" {
		parts = append(parts, node.Name)
	}
	for _, branch := range node.Branches {
		parts = append(parts, "["+branch+"]")
	}
	return strings.Join(parts, "  ")
}
