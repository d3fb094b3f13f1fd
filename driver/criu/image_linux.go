package criu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/pagemap"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// maxImage bounds an image of entries that is read whole, in bytes. Memory is
// in images of another kind.
const maxImage = 256 << 20

// headerSize is the length of what an image starts with: two magic numbers.
const headerSize = 8

// message is a pointer to an entry's type.
type message[T any] interface {
	*T
	proto.Message
}

// image is one of CRIU's images as a list of entries. What this program's
// version of the entries does not know is kept.
type image[T any, P message[T]] struct {
	path    string
	header  []byte
	entries []P
}

func readImage[T any, P message[T]](path string) (*image[T, P], error) {
	b, err := readWhole(path)
	if err != nil {
		return nil, err
	}
	im := &image[T, P]{path: path, header: b[:headerSize]}
	for rest := b[headerSize:]; len(rest) > 0; {
		var payload []byte
		if payload, rest, err = nextEntry(rest); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		entry := P(new(T))
		if err := proto.Unmarshal(payload, entry); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		im.entries = append(im.entries, entry)
	}
	return im, nil
}

func readWhole(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() < headerSize || info.Size() > maxImage {
		return nil, fmt.Errorf("%s has %d bytes", filepath.Base(path), info.Size())
	}
	return os.ReadFile(path)
}

func nextEntry(b []byte) (payload, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n := int(binary.LittleEndian.Uint32(b))
	if n > len(b)-4 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return b[4 : 4+n], b[4+n:], nil
}

func appendEntry(b []byte, m proto.Message) ([]byte, error) {
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...), nil
}

func (im *image[T, P]) write() error {
	b := append([]byte{}, im.header...)
	var err error
	for _, e := range im.entries {
		if b, err = appendEntry(b, e); err != nil {
			return err
		}
	}
	return replaceFile(im.path, b)
}

func replaceFile(path string, content []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, content, 0o644); err != nil { //nolint:gosec // restored processes read it
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// pages is a process's saved memory: which pages there are, and the file that
// holds them one after the other.
type pages struct {
	path    string // of the map
	header  []byte
	head    *pagemap.PagemapHead
	entries []*run
	data    *os.File
}

// run is a range of pages; offset is where they are in the file, which only
// present ones are.
type run struct {
	*pagemap.PagemapEntry
	offset int64
	moved  bool
}

func (r *run) count() uint64 {
	if r.NrPages != nil {
		return r.GetNrPages()
	}
	return uint64(r.GetCompatNrPages())
}

func (r *run) present() bool { return r.GetFlags()&pagePresent != 0 }

func openPages(dir string, pid int) (*pages, error) {
	p := &pages{path: filepath.Join(dir, fmt.Sprintf("pagemap-%d.img", pid)), head: new(pagemap.PagemapHead)}
	b, err := readWhole(p.path)
	if err != nil {
		return nil, err
	}
	p.header = b[:headerSize]
	payload, rest, err := nextEntry(b[headerSize:])
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(payload, p.head); err != nil {
		return nil, err
	}
	var offset int64
	for len(rest) > 0 {
		if payload, rest, err = nextEntry(rest); err != nil {
			return nil, err
		}
		e := &run{PagemapEntry: new(pagemap.PagemapEntry), offset: offset}
		if err := proto.Unmarshal(payload, e.PagemapEntry); err != nil {
			return nil, err
		}
		if e.present() {
			offset += int64(e.count()) * pageSize()
		}
		p.entries = append(p.entries, e)
	}
	p.data, err = os.Open(p.dataPath(dir))
	return p, err
}

// pageSize is that of the machine, which its images have.
func pageSize() int64 { return int64(os.Getpagesize()) }

func (p *pages) dataPath(dir string) string {
	return filepath.Join(dir, fmt.Sprintf("pages-%d.img", p.head.GetPagesId()))
}

func (p *pages) close() { p.data.Close() } //nolint:errcheck // opened for reading

// within counts the pages that lie in a mapping; 0 when some of them are not
// plain memory.
func (p *pages) within(v *vma.VmaEntry) uint64 {
	var n uint64
	for _, e := range p.entries {
		end := e.GetVaddr() + e.count()*uint64(pageSize())
		switch {
		case end <= v.GetStart() || e.GetVaddr() >= v.GetEnd():
		case !e.present() || e.moved || e.GetVaddr() < v.GetStart() || end > v.GetEnd():
			return 0
		default:
			n += e.count()
		}
	}
	return n
}

// move copies a mapping's pages to where they are in it.
func (p *pages) move(v *vma.VmaEntry, to *os.File) (int64, error) {
	var moved int64
	for _, e := range p.entries {
		if e.GetVaddr() < v.GetStart() || e.GetVaddr() >= v.GetEnd() {
			continue
		}
		n := int64(e.count()) * pageSize()
		if err := copyData(p.data, e.offset, to, int64(e.GetVaddr()-v.GetStart()), n); err != nil {
			return moved, err
		}
		e.moved = true
		moved += n
	}
	return moved, nil
}

// write replaces the map and the memory by what has not been moved.
func (p *pages) write() error {
	dir := filepath.Dir(p.path)
	b, err := appendEntry(append([]byte{}, p.header...), p.head)
	if err != nil {
		return err
	}
	kept, err := os.OpenFile(p.dataPath(dir)+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // restored processes read it
	if err != nil {
		return err
	}
	var offset int64
	for _, e := range p.entries {
		if e.moved {
			continue
		}
		if b, err = appendEntry(b, e.PagemapEntry); err != nil {
			break
		}
		if !e.present() {
			continue
		}
		n := int64(e.count()) * pageSize()
		if err = copyData(p.data, e.offset, kept, offset, n); err != nil {
			break
		}
		offset += n
	}
	if err = errors.Join(err, kept.Close()); err != nil {
		return errors.Join(err, os.Remove(kept.Name()))
	}
	if err := os.Rename(kept.Name(), p.dataPath(dir)); err != nil {
		return err
	}
	return replaceFile(p.path, b)
}

func copyData(from *os.File, fromOffset int64, to *os.File, toOffset, n int64) error {
	for n > 0 {
		moved, err := unix.CopyFileRange(int(from.Fd()), &fromOffset, int(to.Fd()), &toOffset, int(min(n, 1<<30)), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return copyThrough(from, fromOffset, to, toOffset, n)
		case err != nil:
			return err
		case moved == 0:
			return io.ErrUnexpectedEOF
		}
		n -= int64(moved)
	}
	return nil
}

func copyThrough(from *os.File, fromOffset int64, to *os.File, toOffset, n int64) error {
	w := io.NewOffsetWriter(to, toOffset)
	copied, err := io.Copy(w, io.NewSectionReader(from, fromOffset, n))
	if err == nil && copied < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
