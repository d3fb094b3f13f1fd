package oci

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/faas-platform/faas/driver/oci/criu"
	"github.com/faas-platform/faas/guest"
)

func ptr[T any](v T) *T { return &v }

func TestExperimentDump(t *testing.T) {
	n := newNative(t, "")
	s := create(t, n, testSpec())
	c := guest.NewClient(s.Dial, guest.Options{Secret: s.secret})
	x, err := c.Start(t.Context(), guest.Command{Args: []string{"/usr/bin/python3", "-c", `
import time
d = {i: i for i in range(1000)}
while True:
    time.sleep(0.05)
    print(len(d), flush=True)
`}})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	x.Stdout.Read(b)
	t.Logf("%q", b)
	start := time.Now()
	if err := c.Quiesce(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("quiesce %v", time.Since(start))
	dir := t.TempDir()
	log0 := time.Now()
	_ = log0
	start = time.Now()
	tool := &criu.Tool{Path: "/opt/faas-test/bin/criu"}
	err = tool.Dump(t.Context(), dir, &rpc.CriuOpts{
		Pid: ptr(int32(s.process.id.PID)), LeaveRunning: ptr(true), LogLevel: ptr(int32(4)),
		TcpClose: ptr(true), FileLocks: ptr(true), LinkRemap: ptr(true), GhostLimit: ptr(uint32(1 << 30)),
		NetworkLock: ptr(rpc.CriuNetworkLockMethod_SKIP), EmptyNs: ptr(uint32(0x40000000)),
		ManageCgroupsMode: ptr(rpc.CriuCgMode_IGNORE), ManageCgroups: ptr(true),
		External: []string{"mnt[/dev]:dev", "mnt[/usr]:usr", "mnt[/.faas/rw]:rw", "mnt[/dev/shm]:shm"},
	}, criu.Hooks{})
	t.Logf("dump %v %v", time.Since(start), err)
	log, _ := os.ReadFile(dir + "/criu.log")
	lines := strings.Split(string(log), "\n")
	if os.Getenv("LOG") != "" {
		os.WriteFile("/tmp/criu-dump.log", log, 0o644)
	}
	for _, l := range lines {
		if strings.Contains(l, "Error") || strings.Contains(l, "Warn") {
			t.Log(l)
		}
	}
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		i, _ := e.Info()
		t.Log(e.Name(), i.Size())
	}
	if err != nil {
		t.FailNow()
	}
	n2, err := x.Stdout.Read(b)
	t.Logf("%d %v %q", n2, err, b)
}
