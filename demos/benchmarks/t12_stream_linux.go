package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
)

const (
	streamBytes = 1 << 30
	streamRuns  = 3
)

// streamOutput takes T12: a gigabyte of a command's output to an HTTP client.
func streamOutput(ctx context.Context, b *bench) ([]Figure, error) {
	d, err := b.gateway(ctx, "t12", 0)
	if err != nil {
		return nil, err
	}
	figures, err := measureStream(ctx, d)
	if stopped := d.stop(); err == nil {
		err = stopped
	}
	return figures, err
}

func measureStream(ctx context.Context, d *daemon) ([]Figure, error) {
	if _, err := d.streamOnce(ctx, 1<<20); err != nil {
		return nil, err
	}
	before, err := residentMiB(d.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	var samples []time.Duration
	for range streamRuns {
		took, err := d.streamOnce(ctx, streamBytes)
		if err != nil {
			return nil, err
		}
		samples = append(samples, took)
	}
	after, err := residentMiB(d.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	all := summarise(samples)
	return []Figure{{
		ID: "T12", Name: "1 GiB of output through exec to the HTTP client, raw", Unit: "MB/s", Better: HigherIsBetter, Target: target(500),
		Value: streamBytes / 1e6 / (all.P50 / 1000), P50: all.P50, P99: all.P99, Runs: all.Runs, Concurrency: 1, State: "cold",
		Clock: "from before the request is written to after the last byte is read; the sandbox is made inside",
		Notes: []string{fmt.Sprintf("resident memory of the gateway %.0f MiB before, peak %.0f MiB", before, after)},
	}}, nil
}

// streamOnce reads size bytes of a command's output and counts them.
func (d *daemon) streamOnce(ctx context.Context, size int64) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	// In large pieces: how fast a program writes small ones is its own affair.
	command := []string{"dd", "if=/dev/zero", "bs=1M", "count=" + strconv.FormatInt(size>>20, 10)}
	body, err := json.Marshal(&api.ExecuteRequest{Command: api.Command{Args: command}, Runtime: faas.RuntimeNative})
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+api.PathExecute, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/octet-stream")
	request.Header.Set("Authorization", "Bearer "+d.key)
	start := time.Now()
	response, err := d.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	took := time.Since(start)
	switch {
	case err != nil:
		return 0, err
	case response.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("stream: %s", response.Status)
	case n != size:
		return 0, fmt.Errorf("stream: %d bytes of %d", n, size)
	case response.Trailer.Get(api.TrailerExitCode) != "0":
		return 0, fmt.Errorf("stream: exit code %q: %s", response.Trailer.Get(api.TrailerExitCode), response.Trailer.Get(api.TrailerError))
	}
	return took, nil
}

// residentMiB is the largest resident set that a process ever had.
func residentMiB(pid int) (float64, error) {
	file := filepath.Join("/proc", strconv.Itoa(pid), "status")
	kb, err := strconv.ParseFloat(strings.TrimSuffix(field(file, "VmHWM"), " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return kb / 1024, nil
}

// pssMiB is a process's share of memory: what is mapped by several counts for
// each in part.
func pssMiB(pid int) (float64, error) {
	file := filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup")
	text := field(file, "Pss")
	if text == "" {
		return 0, nil // it has just ended
	}
	kb, err := strconv.ParseFloat(strings.TrimSuffix(text, " kB"), 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return kb / 1024, nil
}
