package snapshot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas"
)

// Merge writes into the empty directory to the overlay layer that, on top of
// base, is the three-way merge of the branches. Base and branches are stacks
// of layers, topmost first; the branches come oldest first. The conflicts are
// returned in every case; under Union they are why nothing was written. What
// says who a sandbox is (its machine id, /run/faas) is left as base has it.
func Merge(ctx context.Context, base []string, branches [][]string, strategy Strategy, to string) ([]Conflict, error) {
	if !slices.Contains([]Strategy{Union, Intersection, Latest}, strategy) {
		return nil, faas.InvalidField("merge_strategy", "%q is none of union, intersection, latest", strategy)
	}
	deltas := make([]map[string]difference, len(branches))
	for i, b := range branches {
		var err error
		if deltas[i], err = compare(ctx, base, b); err != nil {
			return nil, fmt.Errorf("merge: compare branch %d: %w", i, err)
		}
		maps.DeleteFunc(deltas[i], func(p string, _ difference) bool { return IdentityPath(p) })
	}
	result, conflicts, err := combine(deltas, strategy)
	if err != nil || strategy == Union && len(conflicts) > 0 {
		return conflicts, err
	}
	return conflicts, writeLayer(ctx, base, result, to)
}

// combine decides for every path that a branch changed.
func combine(deltas []map[string]difference, strategy Strategy) (map[string]difference, []Conflict, error) {
	paths := map[string]bool{}
	for _, d := range deltas {
		for p := range d {
			paths[p] = true
		}
	}
	result := map[string]difference{}
	var conflicts []Conflict
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		by, agree, err := changers(deltas, p)
		if err != nil {
			return nil, nil, err
		}
		if !agree {
			conflicts = append(conflicts, Conflict{Path: p, Branches: by})
		}
		switch {
		case strategy == Intersection && (len(by) < len(deltas) || !agree):
			continue
		case strategy == Union && !agree:
			continue
		}
		result[p] = deltas[by[len(by)-1]][p]
	}
	if strategy == Intersection {
		// A change below a directory that not all branches made has no place.
		dropOrphans(result)
		return result, conflicts, nil
	}
	return result, append(conflicts, hiddenChanges(deltas, result, strategy)...), nil
}

// changers lists the branches that changed a path, oldest first, and whether
// they did the same to it.
func changers(deltas []map[string]difference, p string) (by []int, agree bool, err error) {
	agree = true
	for i, d := range deltas {
		change, ok := d[p]
		if !ok {
			continue
		}
		if len(by) > 0 && agree {
			if agree, err = deltas[by[0]][p].after.sameAs(change.after); err != nil {
				return nil, false, err
			}
		}
		by = append(by, i)
	}
	return by, agree, nil
}

// hiddenChanges finds what one branch put below a path that another made into
// something other than a directory. Under Latest the newer of the two wins.
func hiddenChanges(deltas []map[string]difference, result map[string]difference, strategy Strategy) []Conflict {
	var conflicts []Conflict
	for _, p := range slices.Sorted(maps.Keys(result)) {
		if result[p].after == nil {
			continue
		}
		child := newestChanger(deltas, p)
		for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
			above, changed := result[dir]
			if !changed || above.after.isDir() {
				continue
			}
			remover := newestChanger(deltas, dir)
			conflicts = append(conflicts, Conflict{Path: p, Branches: sortedPair(child, remover)})
			if strategy != Latest {
				break
			}
			if remover > child {
				delete(result, p)
				break
			}
			// The newer branch still has the directory, as it was or its own.
			delete(result, dir)
		}
	}
	return conflicts
}

func newestChanger(deltas []map[string]difference, p string) int {
	for i := len(deltas) - 1; i >= 0; i-- {
		if _, ok := deltas[i][p]; ok {
			return i
		}
	}
	return -1
}

func sortedPair(a, b int) []int {
	return []int{min(a, b), max(a, b)}
}

func dropOrphans(result map[string]difference) {
	for _, p := range slices.Sorted(maps.Keys(result)) {
		if dir := path.Dir(p); dir != "/" && result[p].after != nil {
			if above, changed := result[dir]; changed && !above.after.isDir() {
				delete(result, p)
			}
		}
	}
}

// writeLayer writes the changes as an overlay layer on top of base.
func writeLayer(ctx context.Context, base []string, changes map[string]difference, to string) error {
	root, err := newTree(base)
	if err != nil {
		return err
	}
	w := &layerWriter{base: root, to: to, changes: changes}
	for _, p := range slices.Sorted(maps.Keys(changes)) { // parents before children
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.write(p, changes[p]); err != nil {
			return fmt.Errorf("merge: write %s: %w", p, err)
		}
	}
	// The layer's root is the directory / of what lies on it.
	w.made = append([]string{to, root.file}, w.made...)
	return w.copyDirAttributes()
}

type layerWriter struct {
	base    *node
	to      string
	changes map[string]difference
	made    []string // directories copied from base, whose attributes come last
}

func (w *layerWriter) write(p string, d difference) error {
	dir := path.Dir(p)
	if above, changed := w.changes[dir]; changed && !above.after.isDir() {
		return nil // hidden by what became of its directory
	}
	if err := w.parents(dir); err != nil {
		return err
	}
	target := filepath.Join(w.to, p)
	switch {
	case d.after == nil:
		return unix.Mknod(target, unix.S_IFCHR, 0)
	case d.after.isDir():
		return w.dir(target, d)
	}
	src, err := openDir(unix.AT_FDCWD, filepath.Dir(d.after.file))
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := openDir(unix.AT_FDCWD, filepath.Dir(target))
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	single := d.after.stat
	single.Nlink = 1 // other names of it are changes of their own
	c := &layerCopy{ctx: context.Background(), links: map[inode]string{}, root: w.to}
	return c.node(src, dst, filepath.Base(target), p, &single)
}

func (w *layerWriter) dir(target string, d difference) error {
	if err := ignoreExists(os.Mkdir(target, 0o700)); err != nil {
		return err
	}
	if err := copyAttributes(d.after.file, target, &d.after.stat); err != nil {
		return err
	}
	for _, mark := range opaqueMarks {
		// What is copied may carry the mark of another stack.
		if err := unix.Lremovexattr(target, mark); err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EPERM) {
			return err
		}
	}
	if d.before == nil || d.before.isDir() {
		return nil
	}
	return unix.Lsetxattr(target, opaqueMarks[0], []byte("y"), 0)
}

// parents makes the directories above a changed path, as base has them.
func (w *layerWriter) parents(dir string) error {
	at, have := w.base, w.to
	for _, name := range strings.Split(strings.Trim(dir, "/"), "/") {
		if name == "" {
			return nil
		}
		have = filepath.Join(have, name)
		var err error
		if at.isDir() {
			if at, err = at.child(name); err != nil {
				return err
			}
		}
		if _, err := os.Lstat(have); err == nil {
			continue
		}
		if err := os.Mkdir(have, 0o700); err != nil {
			return err
		}
		if at.isDir() {
			w.made = append(w.made, have, at.file)
		}
	}
	return nil
}

func (w *layerWriter) copyDirAttributes() error {
	for i := len(w.made) - 2; i >= 0; i -= 2 {
		var st unix.Stat_t
		if err := unix.Lstat(w.made[i+1], &st); err != nil {
			return err
		}
		if err := copyAttributes(w.made[i+1], w.made[i], &st); err != nil {
			return err
		}
	}
	return nil
}

func ignoreExists(err error) error {
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}
