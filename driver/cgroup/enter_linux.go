package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// enter is a shell script that moves itself into the groups named by its
// first arguments, up to one that is empty, and becomes the rest.
const enter = `while [ -n "$1" ]; do echo 0 > "$1" || exit 125; shift; done; shift; exec "$@"`

// Command makes a command that runs in the group from its first moment, and
// the release to call once it has been started. A thread of this process must
// never be moved there instead: whoever kills the group would kill this
// process with it.
func (g *Group) Command(path string, args ...string) (*exec.Cmd, func() error, error) {
	dirs := g.tree.directories()
	if g.tree.unified {
		dir, err := os.Open(filepath.Join(dirs[0], g.name))
		if err != nil {
			return nil, nil, err
		}
		cmd := exec.Command(path, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
		return cmd, dir.Close, nil
	}
	line := []string{"-c", enter, "sh"}
	for _, dir := range dirs {
		line = append(line, filepath.Join(dir, g.name, "cgroup.procs"))
	}
	line = append(line, "", path)
	return exec.Command("/bin/sh", append(line, args...)...), func() error { return nil }, nil
}
