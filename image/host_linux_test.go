package image_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/faas-platform/faas/image"
)

// showHost mounts the host image as a driver does and runs a script in it.
func showHost(t *testing.T, root *image.RootFS, script string) string {
	t.Helper()
	mounts := `mount --bind "` + root.Host.Skeleton + `" "$at"` + "\n"
	for _, b := range root.Host.Binds {
		if b.Whiteouts == "" {
			mounts += `mount --rbind "` + b.Source + `" "$at` + b.Target + `"` + "\n"
			continue
		}
		mounts += `mount -t overlay overlay -o ro,nosuid,userxattr,lowerdir="` + b.Whiteouts + `:` + b.Source + `" "$at` + b.Target + `"` + "\n"
	}
	return inNamespace(t, mounts+`exec chroot "$at" /bin/sh -ec '`+script+`'`)
}

func TestHostImageRuns(t *testing.T) {
	s := open(t, image.Options{UIDShift: shiftIfRoot(), GIDShift: shiftIfRoot()})
	root := acquire(t, s, "host")
	programs := map[string]string{"awk": `awk "BEGIN{print 42}"`}
	for name, script := range map[string]string{
		"python3": `/usr/bin/python3 -c "import json, ssl; assert ssl.create_default_context().cert_store_stats()[\"x509\"] > 0; print(42)"`,
		"node":    `/usr/bin/node -p 6*7`,
	} {
		if _, err := os.Stat("/usr/bin/" + name); err == nil {
			programs[name] = script
		}
	}
	for name, script := range programs {
		if out := strings.TrimSpace(showHost(t, root, script)); out != "42" {
			t.Errorf("%s printed %q", name, out)
		}
	}
	hidden := showHost(t, root, `for d in /usr/local /usr/src /usr/etc/npmrc; do [ ! -e $d ] || echo $d; done; ls /home /root /workspace; stat -c "%a %u" /tmp /root /home/user /workspace`)
	if hidden != "/home:\nuser\n\n/root:\n\n/workspace:\n1777 0\n700 0\n755 1000\n1777 0\n" {
		t.Errorf("inside it looks like\n%s", hidden)
	}
}

func TestHostImageHoldsNoSecret(t *testing.T) {
	s := open(t, image.Options{})
	root := acquire(t, s, "host")
	if len(root.Layers) != 1 || root.Layers[0] != root.Host.Skeleton || !strings.HasPrefix(root.Digest, "sha256:") {
		t.Errorf("%+v", root)
	}
	files := 0
	err := filepath.WalkDir(root.Host.Skeleton, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "PRIVATE KEY") {
			t.Errorf("%s holds a private key", path)
		}
		rel := strings.TrimPrefix(path, root.Host.Skeleton)
		if info, statErr := os.Stat(rel); statErr == nil && info.Mode().Perm()&0o004 == 0 && rel != "/etc/shadow" {
			t.Errorf("%s is copied and not public", rel)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files, %v", files, err)
	}
	for _, name := range []string{"passwd", "shadow", "hostname", "machine-id"} {
		mine, err := os.ReadFile(filepath.Join(root.Host.Skeleton, "etc", name))
		theirs, hostErr := os.ReadFile("/etc/" + name)
		if err != nil || hostErr == nil && len(theirs) > 0 && string(mine) == string(theirs) {
			t.Errorf("/etc/%s is this machine's own, or missing: %v", name, err)
		}
	}
}

func TestHostImageIsBuiltOnce(t *testing.T) {
	s := open(t, image.Options{})
	first := acquire(t, s, "host")
	second := acquire(t, openIn(t, s.Dir(), image.Options{}), "host")
	if first.Digest != second.Digest || first.Host.Skeleton != second.Host.Skeleton {
		t.Errorf("%s and %s", first.Host.Skeleton, second.Host.Skeleton)
	}
	old := filepath.Join(filepath.Dir(filepath.Dir(first.Host.Skeleton)), strings.Repeat("0", 64))
	if err := os.Mkdir(old, 0o755); err != nil { // of a /usr that is no more
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(first.Host.Skeleton); err != nil {
		t.Errorf("GC took the skeleton in use: %v", err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("GC left the old skeleton: %v", err)
	}
	images, err := s.List(t.Context())
	if err != nil || len(images) != 1 || images[0].Names[0] != "host" || images[0].InUse != 2 || images[0].SizeBytes == 0 {
		t.Errorf("listed %+v, %v", images, err)
	}
}

// TestRootless runs this test's own program as a plain user.
func TestRootless(t *testing.T) {
	needRoot(t)
	dir := traversable(t)
	program := filepath.Join(dir, "test")
	copyFile(t, os.Args[0], program)
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestAsPlainUser$", "-test.v")
	cmd.Dir = home
	cmd.Env = []string{"TMPDIR=" + home, "HOME=" + home, "PATH=" + os.Getenv("PATH"), plainEnv + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestAsPlainUser") {
		t.Errorf("%v\n%s", err, out)
	}
}

// plainEnv marks the program that TestRootless starts.
const plainEnv = "FAAS_TEST_IMAGE_PLAIN"

func TestAsPlainUser(t *testing.T) {
	if os.Getenv(plainEnv) == "" {
		t.Skip("runs inside TestRootless")
	}
	if _, err := image.Open(t.TempDir(), image.Options{UIDShift: 1}); err == nil {
		t.Error("a plain user stores shifted ids")
	}
	s := openIn(t, filepath.Join(t.TempDir(), "store"), image.Options{})
	img, root := importTar(t, s,
		entry{name: "shut/", mode: 0o500}, entry{name: "shut/deep/", mode: 0o500}, entry{name: "shut/deep/in", mode: 0o400, uid: 33, content: "x"},
		entry{name: ".wh.gone"}, entry{name: "o/"}, entry{name: "o/.wh..wh..opq"}, entry{name: "su", mode: 0o4755, uid: 5})
	if len(img.Limitations) != 1 || !strings.Contains(img.Limitations[0], "not root's") {
		t.Errorf("limitations %q", img.Limitations)
	}
	info, err := os.Lstat(filepath.Join(root.Layers[0], "gone"))
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("the whiteout: %v, %v", info, err)
	}
	if err := root.Release(); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove(t.Context(), "test"); err != nil {
		t.Errorf("a tree with directories that cannot be written: %v", err)
	}
	host := acquire(t, s, "host")
	if host.Host.Binds[0].Whiteouts == "" && len(host.Host.Binds[0].Hide) > 0 {
		t.Error("no whiteouts for a plain user")
	}
	leftovers(t, s)
}
