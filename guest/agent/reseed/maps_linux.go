package reseed

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mapping is one line of /proc/PID/maps.
type mapping struct {
	start, end, offset uint64
	exec               bool
	file               string // device, inode and path: what tells one object from another
	path               string
}

func readMaps(pid int) ([]mapping, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []mapping
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		if m, ok := parseMapping(scanner.Text()); ok {
			list = append(list, m)
		}
	}
	return list, nil
}

func parseMapping(line string) (mapping, bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 {
		return mapping{}, false
	}
	from, to, ok := strings.Cut(fields[0], "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	offset, err3 := strconv.ParseUint(fields[2], 16, 64)
	if !ok || err1 != nil || err2 != nil || err3 != nil {
		return mapping{}, false
	}
	m := mapping{start: start, end: end, offset: offset, exec: strings.Contains(fields[1], "x")}
	if fields[4] != "0" && len(fields) > 5 {
		m.path = strings.Join(fields[5:], " ")
		m.file = fields[3] + " " + fields[4]
	}
	return m, true
}

// object is a mapped ELF file.
type object struct {
	path string
	base uint64
	text []mapping
}

func (o object) holds(addr uint64) bool {
	for _, m := range o.text {
		if addr >= m.start && addr < m.end {
			return true
		}
	}
	return false
}

// objects groups the mappings of executable files.
func objects(maps []mapping) []object {
	byFile := map[string]*object{}
	var order []*object
	for _, m := range maps {
		if m.file == "" {
			continue
		}
		o := byFile[m.file]
		if o == nil {
			o = &object{path: m.path}
			byFile[m.file] = o
			order = append(order, o)
		}
		if m.offset == 0 && o.base == 0 {
			o.base = m.start
		}
		if m.exec {
			o.text = append(o.text, m)
		}
	}
	var list []object
	for _, o := range order {
		if o.base != 0 && len(o.text) > 0 {
			list = append(list, *o)
		}
	}
	return list
}

// cLibrary says whether the object holds the allocator's or the loader's
// locks.
func (o object) cLibrary() bool {
	name := filepath.Base(o.path)
	for _, prefix := range []string{"libc.", "libc-", "ld-", "ld.", "libpthread", "libjemalloc", "libtcmalloc", "libmimalloc"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// wipedOnFork lists the ranges marked MADV_WIPEONFORK.
func wipedOnFork(pid int) ([]mapping, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []mapping
	var current mapping
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		line := scanner.Text()
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if strings.Contains(flags+" ", " wf ") {
				list = append(list, current)
			}
			continue
		}
		if strings.Contains(line, "-") && !strings.Contains(strings.SplitN(line, " ", 2)[0], ":") {
			if m, ok := parseMapping(line); ok {
				current = m
			}
		}
	}
	return list, nil
}
