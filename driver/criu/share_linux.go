package criu

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mm"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/mnt"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/regfile"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/seccomp"
	"github.com/checkpoint-restore/go-criu/v8/crit/images/vma"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

const (
	// smallestShared is the size in bytes of the smallest mapping that gets a
	// file: below it the mapping's own costs outweigh what is shared.
	smallestShared = 256 << 10
	// fewestPages is how many pages of a mapping must be in use.
	fewestPages = 16
)

// The flags of CRIU's images that matter here (criu/include/image.h).
const (
	vmaRegular     = 1 << 0
	vmaHeap        = 1 << 5
	vmaFilePrivate = 1 << 6
	vmaAnonPrivate = 1 << 9
	pagePresent    = 1 << 2
)

// Sharing says where the memory of saved processes goes.
type Sharing struct {
	Images string // CRIU's images, rewritten in place
	Files  string // the directory that gets the memory; it exists
	// Mount is where that directory is mounted in every restored sandbox, and
	// Key the name of that external mount.
	Mount, Key string
	// Earlier is the directory that the saved sandbox itself had mounted
	// there; what it still uses of it is linked into Files. May be empty.
	Earlier string
	// Skip leaves processes out, by their ids inside.
	Skip func(pid int) bool
}

// Share moves the large private memory of saved processes from CRIU's images
// into files, and has the images map those files privately. All restores of
// one snapshot then share that memory until they write to it, a restore reads
// none of it ahead of need, and a later snapshot of a restored sandbox holds
// only what has changed since.
//
// In two calls such a mapping differs from anonymous memory, where both would
// give zeros: MADV_DONTNEED would bring back what was saved, and an mremap that
// enlarges a part of it would show what the file has next. Allocators rely on
// either, and do without where the kernel refuses; so the filter of the
// restored processes' system calls refuses the first with EINVAL and the
// second with ENOMEM. A sandbox without a filter keeps its memory to itself.
//
// It returns how many bytes were moved. Images that it does not understand it
// leaves alone.
func Share(s Sharing) (moved int64, err error) {
	mountID, err := s.findMount()
	if err != nil || mountID < 0 {
		return 0, err
	}
	files, err := readImage[fdinfo.FileEntry](filepath.Join(s.Images, "files.img"))
	if err != nil {
		return 0, err
	}
	if err := s.linkEarlier(files.entries); err != nil {
		return 0, err
	}
	if ok, err := refuseCalls(filepath.Join(s.Images, "seccomp.img")); err != nil || !ok {
		return 0, err
	}
	rewrite := &rewriter{Sharing: s, mountID: mountID, files: files}
	for _, f := range files.entries {
		rewrite.lastID = max(rewrite.lastID, f.GetId())
	}
	list, err := filepath.Glob(filepath.Join(s.Images, "mm-*.img"))
	if err != nil {
		return 0, err
	}
	for _, path := range list {
		pid, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "mm-"), ".img"))
		if err != nil || s.Skip(pid) {
			continue
		}
		if err := rewrite.process(pid, path); err != nil {
			return moved, fmt.Errorf("share memory of process %d: %w", pid, err)
		}
	}
	// Last: until here the images' files name nothing new.
	return rewrite.moved, files.write()
}

func (s Sharing) findMount() (int32, error) {
	list, err := filepath.Glob(filepath.Join(s.Images, "mountpoints-*.img"))
	if err != nil || len(list) != 1 {
		return -1, err
	}
	mounts, err := readImage[mnt.MntEntry](list[0])
	if err != nil {
		return -1, err
	}
	for _, m := range mounts.entries {
		if m.GetExtKey() == s.Key {
			return int32(m.GetMntId()), nil
		}
	}
	return -1, nil
}

// linkEarlier keeps what the saved sandbox maps of an earlier snapshot.
func (s Sharing) linkEarlier(files []*fdinfo.FileEntry) error {
	for _, f := range files {
		name, ours := strings.CutPrefix(f.GetReg().GetName(), s.Mount+"/")
		if !ours || strings.Contains(name, "/") || s.Earlier == "" {
			continue
		}
		err := os.Link(filepath.Join(s.Earlier, name), filepath.Join(s.Files, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("keep shared memory: %w", err)
		}
	}
	return nil
}

// rewriter moves the memory of one process after the other.
type rewriter struct {
	Sharing
	mountID int32
	files   *image[fdinfo.FileEntry, *fdinfo.FileEntry]
	lastID  uint32
	moved   int64
}

func (r *rewriter) process(pid int, path string) error {
	space, err := readImage[mm.MmEntry](path)
	if err != nil || len(space.entries) != 1 {
		return err
	}
	pages, err := openPages(r.Images, pid)
	if err != nil {
		return err
	}
	defer pages.close()
	changed := false
	for _, v := range space.entries[0].GetVmas() {
		if !shareable(v) || pages.within(v) < fewestPages {
			continue
		}
		if err := r.mapping(v, pages); err != nil {
			return err
		}
		changed = true
	}
	if !changed {
		return nil
	}
	// The mappings first: with them and without the smaller pages the images
	// are whole; a crash in between leaves a draft that nobody commits.
	return errors.Join(space.write(), pages.write())
}

// shareable says whether a mapping can become a private one of a file: plain
// private memory without anything that a file could not offer.
func shareable(v *vma.VmaEntry) bool {
	const wipeOnFork = 1 << unix.MADV_WIPEONFORK
	plain := v.GetStatus()&^vmaHeap == vmaRegular|vmaAnonPrivate
	flags := v.GetFlags()
	return plain && v.GetEnd()-v.GetStart() >= smallestShared && v.GetMadv()&wipeOnFork == 0 &&
		flags&unix.MAP_ANONYMOUS != 0 && flags&unix.MAP_PRIVATE != 0 &&
		flags&(unix.MAP_GROWSDOWN|unix.MAP_HUGETLB|unix.MAP_LOCKED) == 0
}

// mapping moves one mapping's pages into a file of their own.
func (r *rewriter) mapping(v *vma.VmaEntry, pages *pages) error {
	name := strings.ToLower(rand.Text()) // nobody inside can guess another's
	f, err := os.OpenFile(filepath.Join(r.Files, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o444)
	if err != nil {
		return err
	}
	size := int64(v.GetEnd() - v.GetStart())
	n, err := pages.move(v, f)
	err = errors.Join(err, f.Truncate(size), f.Close())
	if err != nil {
		return err
	}
	r.moved += n
	r.lastID++
	kind, id := fdinfo.FdTypes_REG, r.lastID
	r.files.entries = append(r.files.entries, &fdinfo.FileEntry{Type: &kind, Id: &id, Reg: &regfile.RegFileEntry{
		Id: &id, Flags: proto.Uint32(unix.O_RDONLY), Pos: proto.Uint64(0), Name: proto.String(r.Mount + "/" + name),
		Fown:  &fown.FownEntry{Uid: proto.Uint32(0), Euid: proto.Uint32(0), Signum: proto.Uint32(0), PidType: proto.Uint32(0), Pid: proto.Uint32(0)},
		MntId: &r.mountID, Size: proto.Uint64(uint64(size)), Mode: proto.Uint32(unix.S_IFREG | 0o444),
	}})
	v.Status = proto.Uint32(v.GetStatus()&^vmaAnonPrivate | vmaFilePrivate)
	v.Flags = proto.Uint32(v.GetFlags() &^ unix.MAP_ANONYMOUS)
	v.Shmid, v.Pgoff, v.Fdflags = proto.Uint64(uint64(id)), proto.Uint64(0), proto.Uint32(unix.O_RDONLY)
	return nil
}

// refuseCalls puts a refusal of the calls that would not do what they should before every system call
// filter of the saved processes. It returns false when there is none to put it
// before.
func refuseCalls(path string) (bool, error) {
	filters, err := readImage[seccomp.SeccompEntry](path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil || len(filters.entries) != 1 || len(filters.entries[0].GetSeccompFilters()) == 0 {
		return false, err
	}
	refusal := refusal()
	for _, f := range filters.entries[0].GetSeccompFilters() {
		program := f.GetFilter()
		switch {
		case strings.HasPrefix(string(program), string(refusal)):
			continue // the sandbox was itself restored from such a snapshot
		case len(program)+len(refusal) > unix.BPF_MAXINSNS*8:
			return false, nil
		}
		f.Filter = append(append([]byte{}, refusal...), program...)
	}
	return true, filters.write()
}

// refusal is a piece of a seccomp program that leaves what follows as it is:
// jumps are relative, and what follows loads what it compares.
func refusal() []byte {
	const (
		load     = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		keep     = unix.BPF_MISC | unix.BPF_TAX
		equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		sameKept = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_X
		overKept = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_X
		answer   = unix.BPF_RET | unix.BPF_K
		invalid  = unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)
		noMemory = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOMEM)
		number   = 0 // offset in struct seccomp_data
	)
	// Halves of an argument; the machines that SharesMemory names are
	// little-endian.
	low := func(i uint32) uint32 { return 16 + 8*i }
	high := func(i uint32) uint32 { return low(i) + 4 }
	const end = 20
	steps := [end]struct {
		code    uint16
		yes, no int // index of the next step
		k       uint32
	}{
		{load, 0, 0, number},
		{equal, 2, 5, unix.SYS_MADVISE}, // (address, length, advice)
		{load, 0, 0, low(2)},
		{equal, 4, end, unix.MADV_DONTNEED},
		{answer, 0, 0, invalid},
		{equal, 6, 9, unix.SYS_PROCESS_MADVISE}, // (process, vector, count, advice, flags)
		{load, 0, 0, low(3)},
		{equal, 8, end, unix.MADV_DONTNEED},
		{answer, 0, 0, invalid},
		{equal, 10, end, unix.SYS_MREMAP}, // (address, size, new size, …)
		{load, 0, 0, high(1)},
		{keep, 0, 0, 0},
		{load, 0, 0, high(2)},
		{overKept, 19, 14, 0},
		{sameKept, 15, end, 0},
		{load, 0, 0, low(1)},
		{keep, 0, 0, 0},
		{load, 0, 0, low(2)},
		{overKept, 19, end, 0},
		{answer, 0, 0, noMemory},
	}
	var b []byte
	for i, s := range steps {
		b = binary.NativeEndian.AppendUint16(b, s.code)
		b = append(b, uint8(max(0, s.yes-i-1)), uint8(max(0, s.no-i-1)))
		b = binary.NativeEndian.AppendUint32(b, s.k)
	}
	return b
}

// SharesMemory says whether this architecture's images are understood.
func SharesMemory() bool { return runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64" }
