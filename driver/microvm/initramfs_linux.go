package microvm

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/faas-platform/faas/guest/machine"
)

// initial makes the initial file system of a kernel with an agent, once for
// both, and returns its path.
func initial(dir string, k *kernel, agent []byte) (string, error) {
	modules, err := k.load()
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, m := range modules {
		sum.Write(m.content)
	}
	sum.Write(agent)
	path := filepath.Join(dir, k.Release+"-"+hex.EncodeToString(sum.Sum(nil)[:8])+".cpio")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone when all went well
	if err := errors.Join(writeInitial(tmp, modules, agent), tmp.Chmod(0o644), tmp.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(tmp.Name(), path)
}

func writeInitial(w io.Writer, modules []module, agent []byte) error {
	out := &archive{w: bufio.NewWriter(w)}
	for _, dir := range []string{"dev", "proc", "sys", "root", "etc", strings.TrimPrefix(machine.ModulesDir, "/")} {
		out.add(dir, unix.S_IFDIR|0o755, nil, 0)
	}
	// The kernel opens it for its first process, before anything is mounted.
	out.add("dev/console", unix.S_IFCHR|0o600, nil, unix.Mkdev(5, 1))
	out.add("init", unix.S_IFREG|0o755, agent, 0)
	var order strings.Builder
	for _, m := range modules {
		out.add(strings.TrimPrefix(machine.ModulesDir, "/")+"/"+m.name+".ko", unix.S_IFREG|0o644, m.content, 0)
		order.WriteString(m.name + "\n")
	}
	out.add(strings.TrimPrefix(machine.ModulesList, "/"), unix.S_IFREG|0o644, []byte(order.String()), 0)
	return out.end()
}

// archive writes the kernel's form of cpio, "newc": fields of eight hexadecimal
// digits, names and contents padded to four bytes.
type archive struct {
	w    *bufio.Writer
	last int // inode number
	err  error
}

func (a *archive) add(name string, mode uint32, content []byte, device uint64) {
	a.last++
	links := 1
	if mode&unix.S_IFMT == unix.S_IFDIR {
		links = 2
	}
	a.entry(name, a.last, mode, links, content, device)
}

func (a *archive) entry(name string, inode int, mode uint32, links int, content []byte, device uint64) {
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, mode, 0, 0, links, 0, len(content), 0, 0, unix.Major(device), unix.Minor(device), len(name)+1, 0)
	a.write([]byte(head + name + "\x00"))
	a.pad(len(head) + len(name) + 1)
	a.write(content)
	a.pad(len(content))
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
}

func (a *archive) pad(written int) { a.write(make([]byte, (4-written%4)%4)) }

func (a *archive) end() error {
	a.entry("TRAILER!!!", 0, 0, 1, nil, 0)
	return errors.Join(a.err, a.w.Flush())
}
