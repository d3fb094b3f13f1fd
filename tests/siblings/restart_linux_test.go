package siblings

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/faas-platform/faas"
)

// many is how many copies are made of one snapshot after a restart.
const many = 100

// TestManyCopiesAfterARestart saves a program that waits, starts the executor
// again, and makes a hundred copies beside each other: of another size, with
// environments and names of their own, half of them with a network that the
// source did not have. The program goes on in each.
func TestManyCopiesAfterARestart(t *testing.T) {
	w := open(t, faas.RuntimeNative)
	if full := w.caps.Feature(faas.FeatureSnapshotFull); !full.Available {
		t.Skipf("SKIP native restart: %s", full.Reason)
	}
	source := w.create(faas.InstanceRequest{
		Resources: faas.Resources{CPUCores: 1, MemoryMB: 128, DiskMB: 32, PIDs: 64}, Env: map[string]string{"SOURCE": "yes", "COPY": "no"},
	})
	w.sh(source.ID, `mkfifo /tmp/ask /tmp/answer
		setsid sh -c 'n=0; while read who </tmp/ask; do n=$((n+1)); echo "$who $n" >/tmp/answer; done' </dev/null >/dev/null 2>&1 &`)
	const ask = `echo "$(hostname)" >/tmp/ask; cat /tmp/answer; echo "$SOURCE $COPY"`
	w.sh(source.ID, ask)
	snap, err := w.Snapshot(t.Context(), "", source.ID, faas.SnapshotRequest{Kind: faas.SnapshotFull})
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	if got := w.sh(source.ID, ask); got != source.ID+" 2\nyes no" {
		t.Errorf("the source after the restart: %q", got)
	}
	variants := make([]faas.InstanceRequest, many)
	for i := range variants {
		variants[i] = faas.InstanceRequest{
			Name: "copy-" + strconv.Itoa(i), Env: map[string]string{"COPY": strconv.Itoa(i)}, Resources: faas.Resources{MemoryMB: 96},
		}
		if i%2 == 1 && w.caps.Has(faas.FeatureNetworkEgress) {
			variants[i].Network = &faas.NetworkPolicy{Mode: faas.NetworkEgress}
		}
	}
	begun := time.Now()
	forks := w.fork(snap.ID, variants...)
	t.Logf("%d copies in %v", many, time.Since(begun).Round(time.Millisecond))
	for i, f := range forks {
		if f.Err != nil {
			t.Fatalf("copy %d: %v", i, f.Err)
		}
		want := f.Instance.ID + " 2\nyes " + strconv.Itoa(i)
		if got := w.sh(f.Instance.ID, ask); got != want {
			t.Errorf("copy %d says %q, not %q", i, got, want)
		}
		links := strings.Fields(w.sh(f.Instance.ID, "ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1"))
		if connected := len(links) > 1; connected != (variants[i].Network != nil) {
			t.Errorf("copy %d has the interfaces %v", i, links)
		}
	}
}
