package recovery

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

// marker is what every command makes first, inside its sandbox.
const marker = "/tmp/began"

// label is on every request of the clients.
const label = "recovery-test"

// known is what a client knows of one execution.
type known struct {
	token string
	begun bool                 // some of its output arrived
	final *api.ExecuteResponse // its outcome arrived
	wrong string               // what the daemon answered instead of running it
}

// load is clients that run commands one after the other.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu  sync.Mutex
	all []known
}

var tokens atomic.Int64

// startLoad begins the work of several clients against the daemon. Half of
// them take warm sandboxes; the others ask for a size of which there is no
// pool, so that sandboxes are made on demand too.
func startLoad(in *installation) *load {
	ctx, cancel := context.WithCancel(in.t.Context())
	l := &load{stop: cancel}
	for worker := range workers {
		l.done.Go(func() {
			for ctx.Err() == nil {
				k := known{token: fmt.Sprintf("token-%d", tokens.Add(1))}
				gone := in.run(ctx, &k, worker)
				l.mu.Lock()
				l.all = append(l.all, k)
				l.mu.Unlock()
				if gone {
					return
				}
			}
		})
	}
	return l
}

// finish stops the clients and returns what they know.
func (l *load) finish() []known {
	l.stop()
	l.done.Wait()
	return l.all
}

// run runs one command as an event stream; it returns true when the daemon is
// gone or refuses to.
func (in *installation) run(ctx context.Context, k *known, worker int) bool {
	body := &api.ExecuteRequest{
		// The last argument is there to be found in the record.
		Command: api.Command{Args: []string{"sh", "-c", fmt.Sprintf(": >%s; echo begun; sleep 0.0%d; echo done", marker, worker), k.token}},
		Runtime: faas.RuntimeNative, Labels: map[string]string{label: k.token},
	}
	if worker%2 == 1 {
		body.MemoryMB = 300
	}
	request, err := in.request(ctx, http.MethodPost, api.PathExecute, body)
	if err != nil {
		return true
	}
	request.Header.Set("Accept", "text/event-stream")
	response, err := in.client.Do(request)
	if err != nil {
		return true
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		problem, _ := io.ReadAll(io.LimitReader(response.Body, 4096)) // cut off where it was killed
		k.wrong = response.Status + ": " + string(problem)
		return true
	}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		var frame api.ServerFrame
		if !ok || json.Unmarshal([]byte(data), &frame) != nil {
			continue
		}
		switch frame.Type {
		case api.FrameStdout:
			k.begun = true
		case api.FrameResult:
			k.final = frame.Result
		case api.FrameError:
			k.wrong = frame.Error.Detail
		}
	}
	return lines.Err() != nil
}
