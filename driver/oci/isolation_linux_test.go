package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What the Moby project masks or makes read-only in /proc is out of reach
// here without a mount for each: it belongs to a user that is not inside.
func TestIsolationOfProc(t *testing.T) {
	n := newNative(t, "")
	s := create(t, n, testSpec())
	for _, path := range []string{"kcore", "sysrq-trigger", "timer_list", "latency_stats", "kmsg", "kpagecount", "kpageflags", "vmallocinfo", "slabinfo"} {
		if _, err := os.Stat("/proc/" + path); err != nil {
			continue // not of this kernel
		}
		if out, code := run(t, s, "head -c 1 /proc/"+path+" >/dev/null"); code == 0 {
			t.Errorf("/proc/%s can be read: %s", path, out)
		}
	}
	for _, path := range []string{"sysrq-trigger", "sys/kernel/core_pattern", "sys/kernel/sysrq", "sys/vm/drop_caches",
		"sys/kernel/modprobe", "sys/fs/file-max", "irq/default_smp_affinity", "sys/kernel/randomize_va_space"} {
		if _, err := os.Stat("/proc/" + path); err != nil {
			continue
		}
		if out, code := run(t, s, "echo 0 > /proc/"+path); code == 0 {
			t.Errorf("/proc/%s can be written: %s", path, out)
		}
	}
	// Symbols of the kernel are there without their addresses.
	if out, _ := run(t, s, "head -1 /proc/kallsyms | cut -c1-16"); strings.Trim(out, "0") != "" {
		t.Errorf("/proc/kallsyms shows %s", out)
	}
}

func TestIsolationRefusesPrivileges(t *testing.T) {
	n := newNative(t, "")
	s := create(t, n, testSpec())
	for what, script := range map[string]string{
		"mount a file system":            "mount -t tmpfs none /mnt",
		"remount the root":               "mount -o remount,rw /",
		"make /usr writable":             "mount -o remount,rw /usr",
		"unmount":                        "umount /usr",
		"write to /usr":                  "touch /usr/new",
		"write to /dev":                  "touch /dev/new",
		"make a device node":             "mknod /tmp/null c 1 3 && echo x > /tmp/null",
		"make a user namespace":          "unshare -U true",
		"make another namespace":         "unshare -n true",
		"enter a namespace":              "nsenter -t 1 -m true",
		"change the root":                "chroot / true",
		"set the clock":                  "date -s @0",
		"set the host name":              "hostname other",
		"see the writable layer's mount": "ls /.faas/rw/upper",
		"replace the agent":              "rm -f /.faas/faas-agent && touch /.faas/faas-agent",
		"trace the agent":                "cat /proc/1/environ",
		"add an interface":               "ip link add type dummy",
	} {
		if os.Geteuid() != 0 && (strings.Contains(what, "layer") || strings.Contains(what, "replace") || strings.Contains(what, "write to /dev")) {
			continue // a plain user's sandbox has no owner above its root; the files are its own
		}
		if out, code := run(t, s, script); code == 0 {
			t.Errorf("a command could %s: %s", what, out)
		}
	}
	// What a device node made inside would be is shown by the mounts: none but
	// /dev, whose nodes are ours, allows devices.
	out, _ := run(t, s, "cat /proc/self/mounts")
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		at, options := fields[1], strings.Split(fields[3], ",")
		if !has(options, "nodev") && !strings.HasPrefix(at, "/dev") {
			t.Errorf("%s allows device nodes", at)
		}
	}
	status, _ := run(t, s, "cat /proc/self/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapAmb:\t0000000000000000", "CapBnd:\t00000000000004fb"} {
		if !strings.Contains(status, want) {
			t.Errorf("a command's status lacks %q", want)
		}
	}
}

func has(options []string, want string) bool {
	for _, o := range options {
		if o == want {
			return true
		}
	}
	return false
}

// No file of the host is visible below the root, and no path of it in the
// mounts, but where the driver keeps its directory: the kernel names the source
// of a bind, and these two are shared by all sandboxes.
func TestIsolationHidesTheHost(t *testing.T) {
	n := newNative(t, "")
	s := create(t, n, testSpec())
	out, _ := run(t, s, "cat /proc/self/mounts /proc/self/mountinfo /proc/1/cmdline")
	for line := range strings.Lines(out) {
		if strings.Contains(line, n.opts.Dir) && !strings.Contains(line, " /dev ") && !strings.Contains(line, " "+memoryDir+" ") {
			t.Errorf("the driver's directory shows in %s", line)
		}
	}
	marker := filepath.Join(t.TempDir(), "marker")
	if err := os.WriteFile(marker, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, s, "ls "+marker+" || ls /var/lib/dpkg || ls /usr/local/* /usr/src/*"); code == 0 {
		t.Errorf("files of the host can be seen: %s", out)
	}
	pids, _ := run(t, s, "ls /proc | grep -c '^[0-9]'")
	if len(pids) > 1 {
		t.Errorf("%s processes are visible", pids)
	}
}

// A checkpoint pays for each mount.
func TestMountsAreFew(t *testing.T) {
	n := newNative(t, "")
	s := create(t, n, testSpec())
	limit := 8
	if os.Geteuid() != 0 {
		limit += len(devices) - 1 // a plain user's device nodes are bound one by one
	}
	out, _ := run(t, s, "cat /proc/self/mounts")
	if got := strings.Count(out, "\n") + 1; got > limit {
		t.Errorf("%d mounts, want %d at most:\n%s", got, limit, out)
	}
}

func TestReadOnly(t *testing.T) {
	n := newNative(t, "")
	spec := testSpec()
	spec.ReadOnly = true
	s := create(t, n, spec)
	if out, code := run(t, s, "touch /tmp/x || touch /etc/x"); code == 0 {
		t.Errorf("a read-only root was written to: %s", out)
	}
	if out, code := run(t, s, "touch /dev/shm/x && cat /run/faas/instance.json"); code != 0 || !strings.Contains(out, spec.ID) {
		t.Errorf("%d: %s", code, out)
	}
}

// A layer that is large beside the memory is a file system on disk.
func TestDiskImageLayer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP native all: a disk image needs root to be mounted")
	}
	for _, mb := range []int64{100, 400} { // ext4 and, where there is one, xfs
		how, err := formatter(mb)
		if err != nil {
			notHere(t, err.Error())
		}
		t.Run(how.fstype, func(t *testing.T) {
			n := newNative(t, "")
			spec := testSpec()
			spec.Resources.DiskMB = mb
			s := create(t, n, spec)
			out, code := run(t, s, "grep ' /.faas/rw ' /proc/mounts; dd if=/dev/zero of=/tmp/big bs=1M count=60 2>&1 | tail -1; dd if=/dev/zero of=/tmp/full bs=1M count=500 2>&1; rm /tmp/big /tmp/full")
			if code != 0 || !strings.Contains(out, how.fstype) || !strings.Contains(out, "No space left") {
				t.Errorf("%d: %s", code, out)
			}
			st, err := s.Stats(t.Context())
			if err != nil || st.OOMKills > 0 || st.DiskBytes <= 0 {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range loops {
		if b, err := os.ReadFile(l); err == nil && strings.Contains(string(b), "faas-oci-") {
			t.Errorf("%s still has %s", l, b)
		}
	}
}

func TestAdopt(t *testing.T) {
	n := newNative(t, "")
	spec := testSpec()
	s := create(t, n, spec)
	next := spec
	next.ID = "" // a request has an id of its own, which the sandbox does not take
	next.Project, next.Labels = "other", map[string]string{"a": "b"}
	next.Resources.MemoryMB, next.Resources.CPUCores = 96, 0.5
	if err := n.Adopt(t.Context(), s, next); err != nil {
		t.Fatal(err)
	}
	r, err := n.work.Load(s.ID())
	if err != nil || r.Spec.Project != "other" || r.Spec.ID != s.ID() {
		t.Errorf("the record says %+v, %v", r, err)
	}
	next.Resources.DiskMB++
	if err := n.Adopt(t.Context(), s, next); err == nil || !strings.Contains(err.Error(), "disk_mb") {
		t.Errorf("another disk size: %v", err)
	}
}
