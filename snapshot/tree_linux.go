package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// opaqueMarks say that a directory hides what lies below it; the first is
// what overlays mounted inside a user namespace use.
var opaqueMarks = [...]string{"user.overlay.opaque", "trusted.overlay.opaque"}

// node is one path in a stack of overlay layers, as a reader of the mounted
// overlay would see it.
type node struct {
	stat unix.Stat_t
	file string   // the path of the layer's file that is seen
	dirs []string // of a directory: the layers' directories that it is made of, topmost first
}

// newTree returns the root of the layers, topmost first.
func newTree(layers []string) (*node, error) {
	n := &node{dirs: layers}
	if len(layers) == 0 {
		return nil, errors.New("a tree needs a layer")
	}
	n.file = layers[0]
	return n, unix.Lstat(n.file, &n.stat)
}

func (n *node) isDir() bool     { return n != nil && n.stat.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isRegular() bool { return n != nil && n.stat.Mode&unix.S_IFMT == unix.S_IFREG }

// child returns what a name in a directory stands for, nil for nothing.
func (n *node) child(name string) (*node, error) {
	var found *node
	for _, dir := range n.dirs {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		err := unix.Lstat(path, &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		directory := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isWhiteout(&st) || found != nil && !directory {
			break
		}
		if found == nil {
			found = &node{stat: st, file: path}
		}
		if !directory {
			break
		}
		found.dirs = append(found.dirs, path)
		if isOpaque(path) {
			break
		}
	}
	return found, nil
}

// names lists what a directory holds.
func (n *node) names() ([]string, error) {
	seen := map[string]bool{}
	for _, dir := range n.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			seen[e.Name()] = true
		}
	}
	list := make([]string, 0, len(seen))
	for name := range seen {
		if c, err := n.child(name); err != nil {
			return nil, err
		} else if c != nil {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

func isOpaque(path string) bool {
	var value [1]byte
	for _, mark := range opaqueMarks {
		if n, err := unix.Lgetxattr(path, mark, value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
	}
	return false
}

// sameAs says whether two nodes are alike to a program inside: type, mode,
// owner, and what they hold. The time of a directory does not count: every
// change below it moves it.
func (n *node) sameAs(o *node) (bool, error) {
	switch {
	case n == nil || o == nil:
		return n == nil && o == nil, nil
	case n.file == o.file:
		return true, nil
	case n.stat.Mode != o.stat.Mode || n.stat.Uid != o.stat.Uid || n.stat.Gid != o.stat.Gid || n.stat.Rdev != o.stat.Rdev:
		return false, nil
	}
	switch n.stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if n.stat.Size != o.stat.Size {
			return false, nil
		}
		return sameContent(n.file, o.file)
	case unix.S_IFLNK:
		a, err1 := os.Readlink(n.file)
		b, err2 := os.Readlink(o.file)
		return a == b, errors.Join(err1, err2)
	}
	return true, nil
}

func sameContent(a, b string) (bool, error) {
	fa, err := openRegular(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := openRegular(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	bufA, bufB := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		na, errA := io.ReadFull(fa, bufA)
		nb, errB := io.ReadFull(fb, bufB)
		if na != nb || !bytes.Equal(bufA[:na], bufB[:nb]) {
			return false, nil
		}
		if ended(errA) && ended(errB) {
			return true, nil
		}
		if errA != nil || errB != nil {
			return false, errors.Join(errA, errB)
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func openRegular(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}
