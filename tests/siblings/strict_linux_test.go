package siblings

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/faas-platform/faas"
)

// unreachable is inside OpenSSL for hours: at no moment can a call be made in
// it without harm.
const unreachable = `import hashlib, ssl
ssl.RAND_bytes(8)
open("/tmp/begun", "w").close()
hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2**31 - 1)
`

// TestUnreachableProcess has a process whose generator cannot be renewed: it is
// named, and a strict restore is refused and leaves nothing.
func TestUnreachableProcess(t *testing.T) {
	w := open(t, faas.RuntimeNative)
	if full := w.caps.Feature(faas.FeatureSnapshotFull); !full.Available {
		t.Skipf("SKIP native strict: %s", full.Reason)
	}
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		t.Skip("SKIP native strict: this machine has no /usr/bin/python3")
	}
	source := w.create(faas.InstanceRequest{Resources: faas.Resources{CPUCores: 0.5, MemoryMB: 256, DiskMB: 64, PIDs: 64}})
	w.put(source.ID, "/tmp/busy.py", []byte(unreachable), 0o644)
	w.sh(source.ID, `setsid /usr/bin/python3 /tmp/busy.py </dev/null >/dev/null 2>&1 &
		while [ ! -e /tmp/begun ]; do sleep 0.05; done
		used() { cut -d' ' -f14 /proc/$!/stat; }; begun=$(used)
		while [ $(used) -lt $((begun + 30)) ]; do sleep 0.05; done # in there for good`)
	snap, err := w.Snapshot(t.Context(), "", source.ID, faas.SnapshotRequest{Kind: faas.SnapshotFull})
	if err != nil {
		t.Fatal(err)
	}
	forks := w.fork(snap.ID, faas.InstanceRequest{}, faas.InstanceRequest{Entropy: faas.EntropyStrict}, faas.InstanceRequest{Name: "named"})
	if err := forks[1].Err; !errors.Is(err, faas.ErrFailedPrecondition) || !strings.Contains(err.Error(), "python3") {
		t.Errorf("a strict copy: %v", err)
	}
	for _, i := range []int{0, 2} {
		if forks[i].Err != nil {
			t.Fatal(forks[i].Err)
		}
		named := false
		for _, r := range forks[i].Instance.Reseeded {
			named = named || !r.Done && r.Reason != "" && strings.HasPrefix(r.Command, "python3")
		}
		if !named {
			t.Errorf("copy %d: the answer does not name the process: %+v", i, forks[i].Instance.Reseeded)
		}
	}
	left, _, err := w.Instances(t.Context(), "", faas.InstanceFilter{})
	if err != nil || len(left) != 3 {
		t.Errorf("there are %d instances, %v; want the source and two copies", len(left), err)
	}
	if running := len(w.secrets.all()); running != 2 {
		t.Errorf("%d copies were made, want 2", running)
	}
}
