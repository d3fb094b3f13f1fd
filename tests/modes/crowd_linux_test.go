package modes

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

// TestCrowd asks for more than a small installation admits: what is beyond the
// queue is refused at once and told when to come again, what waits says how
// long it did, and what runs does not notice.
func TestCrowd(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP modes all: starts the program and sandboxes")
	}
	d := startDaemon(t, "[admission]\nconcurrent = 2\nqueue = 2\nkey_queue = 2\n[policy]\nallowed = [\"native\"]\n")
	if here, why := d.can(t, faas.RuntimeNative, faas.FeatureExec); !here {
		t.Skip("SKIP native all: " + why)
	}
	t.Run("a full queue", d.fullQueue)
	t.Run("want of memory", d.outOfMemory)
}

func (d *daemon) fullQueue(t *testing.T) {
	const asked = 8
	var (
		mu               sync.Mutex
		answers, refused int
		queued           int
		askers           sync.WaitGroup
	)
	impatient := d.WithOptions(client.RequestOptions{MaxRetries: -1})
	for range asked {
		askers.Go(func() {
			got, err := impatient.Execute(t.Context(), shell(faas.RuntimeNative, faas.ModeEphemeral, "sleep 2; echo done"))
			mu.Lock()
			defer mu.Unlock()
			var e *faas.Error
			switch {
			case errors.As(err, &e) && e.Kind == faas.KindResourceExhausted:
				refused++
				if e.RetryAfter < time.Second {
					t.Errorf("refused without a Retry-After: %+v", e)
				}
			case err != nil:
				t.Error(err)
			default:
				answers++
				if got.Stdout != "done\n" {
					t.Errorf("%+v", got)
				}
				if got.QueuedMS > 1000 {
					queued++
				}
			}
		})
	}
	askers.Wait()
	// Two run and two wait; who comes when one of them has ended is admitted.
	if answers < 4 || refused == 0 || answers+refused != asked || queued < 2 {
		t.Errorf("of %d: %d answered, %d of them after a wait, %d refused", asked, answers, queued, refused)
	}
}

// outOfMemory has one sandbox take more than it may while another works.
func (d *daemon) outOfMemory(t *testing.T) {
	if here, why := d.can(t, faas.RuntimeNative, faas.FeatureLimitMemory); !here {
		t.Skip("SKIP native limit-memory: " + why)
	}
	neighbour := make(chan *api.ExecuteResponse, 1)
	go func() {
		defer close(neighbour)
		got, err := d.Execute(t.Context(), api.ExecuteRequest{
			Command: api.Command{Shell: "i=0; while [ $i -lt 30 ]; do i=$((i+1)); sleep 0.1; done; echo $i"}, Runtime: faas.RuntimeNative, MemoryMB: 64,
		})
		if err != nil {
			t.Error(err)
			return
		}
		neighbour <- got
	}()
	greedy := d.run(t, api.ExecuteRequest{
		// A pipe's reader that keeps everything: tail keeps the last bytes asked for.
		Command: api.Command{Shell: "head -c 400000000 /dev/zero | tail -c 400000000 >/dev/null"}, Runtime: faas.RuntimeNative, MemoryMB: 64,
	})
	if !strings.Contains(strings.Join(limitNames(greedy.LimitsHit), " "), string(faas.LimitMemory)) {
		t.Errorf("the greedy one was not stopped: %+v", greedy)
	}
	got, ok := <-neighbour
	if ok && (got.ExitCode != 0 || got.Stdout != "30\n") {
		t.Errorf("its neighbour was not left alone: %+v", got)
	}
}

func limitNames(hit []faas.LimitHit) []string {
	names := make([]string, len(hit))
	for i, h := range hit {
		names[i] = string(h)
	}
	return names
}
