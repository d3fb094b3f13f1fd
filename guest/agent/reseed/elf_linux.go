package reseed

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// image is an ELF object as it lies in a process's memory. Reading it there
// needs no path: it works for files that are deleted, or in another root.
type image struct {
	mem     io.ReaderAt
	bias    uint64 // what the loader added to every address
	low     uint64
	symbols uint64
	strings uint64
	size    uint64 // of the string table
	gnuHash uint64
	sysHash uint64
}

// maxPhdrs bounds what a hostile object can make us read.
const maxPhdrs = 64

var errNoDynamic = errors.New("no dynamic symbols")

// openImage reads the headers of the object whose first page is at base.
func openImage(mem io.ReaderAt, base uint64) (*image, error) {
	var ehdr elf.Header64
	if err := readStruct(mem, base, &ehdr); err != nil {
		return nil, err
	}
	if string(ehdr.Ident[:4]) != elf.ELFMAG || ehdr.Ident[elf.EI_CLASS] != byte(elf.ELFCLASS64) || ehdr.Phnum > maxPhdrs {
		return nil, errNoDynamic
	}
	im := &image{mem: mem, low: base, bias: base}
	var dynamic elf.Prog64
	for i := range uint64(ehdr.Phnum) {
		var p elf.Prog64
		if err := readStruct(mem, base+ehdr.Phoff+i*uint64(ehdr.Phentsize), &p); err != nil {
			return nil, err
		}
		switch {
		case elf.ProgType(p.Type) == elf.PT_LOAD && p.Off == 0:
			im.bias = base - p.Vaddr
		case elf.ProgType(p.Type) == elf.PT_DYNAMIC:
			dynamic = p
		}
	}
	if dynamic.Memsz == 0 {
		return nil, errNoDynamic
	}
	return im, im.readDynamic(im.bias+dynamic.Vaddr, min(dynamic.Memsz, 1<<16))
}

func (im *image) readDynamic(addr, size uint64) error {
	raw := make([]byte, size)
	if _, err := im.mem.ReadAt(raw, int64(addr)); err != nil {
		return fmt.Errorf("read dynamic section: %w", err)
	}
	for ; len(raw) >= 16; raw = raw[16:] {
		value := binary.LittleEndian.Uint64(raw[8:])
		switch elf.DynTag(binary.LittleEndian.Uint64(raw)) {
		case elf.DT_SYMTAB:
			im.symbols = im.relocate(value)
		case elf.DT_STRTAB:
			im.strings = im.relocate(value)
		case elf.DT_STRSZ:
			im.size = value
		case elf.DT_GNU_HASH:
			im.gnuHash = im.relocate(value)
		case elf.DT_HASH:
			im.sysHash = im.relocate(value)
		}
	}
	if im.symbols == 0 || im.strings == 0 {
		return errNoDynamic
	}
	return nil
}

// relocate makes an address absolute. glibc's loader has already done so in
// most objects, musl's never does: what lies below the object was not.
func (im *image) relocate(addr uint64) uint64 {
	if addr < im.low {
		return addr + im.bias
	}
	return addr
}

// lookup returns the address of a defined symbol, or 0.
func (im *image) lookup(name string) uint64 {
	if im.gnuHash != 0 {
		return im.lookupGNU(name)
	}
	if im.sysHash != 0 {
		return im.lookupSysV(name)
	}
	return 0
}

func (im *image) lookupGNU(name string) uint64 {
	var head struct{ Buckets, First, BloomWords, Shift uint32 }
	if readStruct(im.mem, im.gnuHash, &head) != nil || head.Buckets == 0 {
		return 0
	}
	hash := uint32(5381)
	for _, c := range []byte(name) {
		hash = hash*33 + uint32(c)
	}
	buckets := im.gnuHash + 16 + uint64(head.BloomWords)*8
	chains := buckets + uint64(head.Buckets)*4
	index := im.word(buckets + uint64(hash%head.Buckets)*4)
	for range 1 << 16 { // a chain in a hostile object may never end
		if index < head.First {
			return 0
		}
		have := im.word(chains + uint64(index-head.First)*4)
		if have|1 == hash|1 {
			if addr := im.symbol(index, name); addr != 0 {
				return addr
			}
		}
		if have&1 != 0 {
			return 0
		}
		index++
	}
	return 0
}

func (im *image) lookupSysV(name string) uint64 {
	buckets, chains := im.word(im.sysHash), im.word(im.sysHash+4)
	if buckets == 0 {
		return 0
	}
	var hash uint32
	for _, c := range []byte(name) {
		hash = hash<<4 + uint32(c)
		high := hash & 0xf0000000
		hash = (hash ^ high>>24) &^ high
	}
	index := im.word(im.sysHash + 8 + uint64(hash%buckets)*4)
	for range min(chains, 1<<16) {
		if index == 0 || index >= chains {
			return 0
		}
		if addr := im.symbol(index, name); addr != 0 {
			return addr
		}
		index = im.word(im.sysHash + 8 + uint64(buckets)*4 + uint64(index)*4)
	}
	return 0
}

// symbol returns the address of the symbol at index when it is a function
// defined here under that name.
func (im *image) symbol(index uint32, name string) uint64 {
	var sym elf.Sym64
	if readStruct(im.mem, im.symbols+uint64(index)*elf.Sym64Size, &sym) != nil {
		return 0
	}
	if sym.Shndx == uint16(elf.SHN_UNDEF) || elf.ST_TYPE(sym.Info) != elf.STT_FUNC || uint64(sym.Name) >= im.size {
		return 0
	}
	text := make([]byte, len(name)+1)
	if _, err := im.mem.ReadAt(text, int64(im.strings+uint64(sym.Name))); err != nil || !bytes.Equal(text, append([]byte(name), 0)) {
		return 0
	}
	return im.bias + sym.Value
}

func (im *image) word(addr uint64) uint32 {
	var b [4]byte
	if _, err := im.mem.ReadAt(b[:], int64(addr)); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b[:])
}

func readStruct(mem io.ReaderAt, addr uint64, into any) error {
	raw := make([]byte, binary.Size(into))
	if _, err := mem.ReadAt(raw, int64(addr)); err != nil {
		return fmt.Errorf("read %d bytes at %#x: %w", len(raw), addr, err)
	}
	return binary.Read(bytes.NewReader(raw), binary.LittleEndian, into)
}
