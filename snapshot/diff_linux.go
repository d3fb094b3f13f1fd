package snapshot

import (
	"context"
	"path"
	"slices"
)

// Diff lists how the tree of the layers to differs from that of from, sorted
// by path. Both are stacks of directories, topmost first, image layers
// included; what they share at the bottom is not read.
func Diff(ctx context.Context, from, to []string) ([]Change, error) {
	delta, err := compare(ctx, from, to)
	if err != nil {
		return nil, err
	}
	list := make([]Change, 0, len(delta))
	for p, d := range delta {
		list = append(list, d.change(p))
	}
	slices.SortFunc(list, func(a, b Change) int { return comparePaths(a.Path, b.Path) })
	return list, nil
}

func comparePaths(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// difference is one path's node before and after; nil for nothing.
type difference struct{ before, after *node }

func (d difference) change(p string) Change {
	c := Change{Path: p, Change: Changed}
	switch {
	case d.before == nil:
		c.Change = Added
	case d.after == nil:
		c.Change = Removed
	}
	if d.before.isRegular() {
		c.OldSize = d.before.stat.Size
	}
	if d.after.isRegular() {
		c.NewSize = d.after.stat.Size
	}
	return c
}

// compare finds every path that differs.
func compare(ctx context.Context, from, to []string) (map[string]difference, error) {
	before, err := newTree(from)
	if err != nil {
		return nil, err
	}
	after, err := newTree(to)
	if err != nil {
		return nil, err
	}
	c := &comparison{ctx: ctx, found: map[string]difference{}}
	return c.found, c.dirs("/", before, after)
}

type comparison struct {
	ctx   context.Context
	found map[string]difference
}

func (c *comparison) dirs(p string, before, after *node) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	// Two directories made of the very same layers hold the same.
	if before.isDir() && after.isDir() && slices.Equal(before.dirs, after.dirs) {
		return nil
	}
	names := map[string]bool{}
	for _, n := range []*node{before, after} {
		if !n.isDir() {
			continue
		}
		list, err := n.names()
		if err != nil {
			return err
		}
		for _, name := range list {
			names[name] = true
		}
	}
	for name := range names {
		if err := c.entry(path.Join(p, name), name, before, after); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) entry(p, name string, before, after *node) error {
	var a, b *node
	var err error
	if before.isDir() {
		if a, err = before.child(name); err != nil {
			return err
		}
	}
	if after.isDir() {
		if b, err = after.child(name); err != nil {
			return err
		}
	}
	same, err := a.sameAs(b)
	if err != nil {
		return err
	}
	if !same {
		c.found[p] = difference{a, b}
	}
	if a.isDir() || b.isDir() {
		return c.dirs(p, a, b)
	}
	return nil
}
