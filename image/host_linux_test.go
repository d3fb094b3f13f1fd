package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/faas-platform/faas/image"
)

func TestHostImageRuns(t *testing.T) {
	s, err := image.Open(t.TempDir(), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.Acquire(t.Context(), "host")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Release()
	out, _ := exec.Command("find", root.Layers[0], "-maxdepth", "2", "-ls").CombinedOutput()
	t.Logf("%s\n%+v", out, root.Host)
	at := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	b := root.Host.Binds[0]
	script := `set -e
mount --bind ` + root.Layers[0] + ` ` + at + `
mount -t overlay overlay -o ro,nosuid,userxattr,lowerdir=` + b.Whiteouts + `:/usr ` + at + `/usr
chroot ` + at + ` /bin/sh -c 'ls /usr; python3 -c "import ssl,json; print(ssl.create_default_context().cert_store_stats())"; node -p 1+1; awk "BEGIN{print 7}"; cat /etc/os-release | head -1; ls /usr/etc'
`
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}, GidMappings: []syscall.SysProcIDMap{{HostID: 0, Size: 65536}}}
	out, err = cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
