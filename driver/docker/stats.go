package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/driver"
	"github.com/faas-platform/faas/guest"
)

// Stats implements driver.Sandbox. On this machine the figures come from the
// sandbox's control groups. Elsewhere they come from the engine, and the
// killed and refused processes, of which the engine keeps no count, from the
// same control groups as the agent reads them.
func (s *sandbox) Stats(ctx context.Context) (driver.Stats, error) {
	const op = "read consumption of docker sandbox"
	s.mu.Lock()
	direct, p := s.direct, s.process
	s.mu.Unlock()
	if direct {
		if st, err := groupStats(p.readFile); err == nil {
			return st, nil
		}
	}
	st, err := s.engineStats(ctx)
	if err != nil {
		return driver.Stats{}, opError(op, "sandbox "+s.id, err)
	}
	return st, nil
}

// maxStatsSize bounds the engine's answer, in bytes.
const maxStatsSize = 1 << 20

// engineStats asks the engine for one sample.
func (s *sandbox) engineStats(ctx context.Context) (driver.Stats, error) {
	var raw container.StatsResponse
	err := s.d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerStats(ctx, s.container(), client.ContainerStatsOptions{})
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(io.LimitReader(res.Body, maxStatsSize)).Decode(&raw)
	})
	if err != nil {
		return driver.Stats{}, err
	}
	info, err := s.d.engine.inspect(ctx, s.container())
	if err != nil {
		return driver.Stats{}, err
	}
	st := driver.Stats{
		CPUMS:          int64(raw.CPUStats.CPUUsage.TotalUsage / 1e6), //nolint:gosec // 292 years
		MemoryBytes:    int64(raw.MemoryStats.Usage),                  //nolint:gosec // bytes of this world
		MaxMemoryBytes: int64(raw.MemoryStats.MaxUsage),               //nolint:gosec // likewise
		PIDs:           int64(raw.PidsStats.Current),                  //nolint:gosec // likewise
	}
	if info.State == nil || !info.State.Running {
		if info.State != nil && info.State.OOMKilled {
			st.OOMKills = 1
		}
		return st, nil
	}
	if !info.State.Paused {
		s.addCounts(ctx, &st)
	}
	return st, nil
}

// addCounts adds what only the control groups count. A sandbox whose agent
// does not answer keeps the engine's figures alone.
func (s *sandbox) addCounts(ctx context.Context, st *driver.Stats) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c := s.insideClient()
	counts, err := groupStats(func(name string) (string, error) {
		r, _, err := c.ReadFile(ctx, name, 0, -1)
		if err != nil {
			return "", err
		}
		defer r.Close()
		b, err := io.ReadAll(io.LimitReader(r, 16<<10))
		return string(b), err
	})
	if err != nil {
		s.d.log.Debug("control groups cannot be read inside", "sandbox", s.id, "error", err)
		return
	}
	st.OOMKills, st.PIDsRefused = counts.OOMKills, counts.PIDsRefused
	st.MaxMemoryBytes = max(st.MaxMemoryBytes, counts.MaxMemoryBytes)
}

// insideClient is the driver's own client of the agent, for figures that only
// the inside knows. It is kept: by way of a shim a connection is dear.
func (s *sandbox) insideClient() *guest.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside == nil {
		s.inside = guest.NewClient(s.Dial, guest.Options{Secret: s.rec.Secret, Multiplex: !s.direct})
	}
	return s.inside
}

// cgroupRoot is where control groups are mounted in every container.
const cgroupRoot = "/sys/fs/cgroup/"

// groupStats reads a sandbox's control groups, of either version, as they are
// mounted inside.
func groupStats(read func(name string) (string, error)) (driver.Stats, error) {
	if _, err := read(cgroupRoot + "cgroup.controllers"); err == nil {
		return unifiedStats(read)
	}
	return legacyStats(read)
}

// unifiedStats reads control groups of version 2.
func unifiedStats(read func(string) (string, error)) (driver.Stats, error) {
	var st driver.Stats
	var errs []error
	keyed := func(file, key string) int64 { return keyedValue(read, cgroupRoot+file, key, &errs) }
	single := func(file string) int64 { return singleValue(read, cgroupRoot+file, &errs) }
	st.CPUMS = keyed("cpu.stat", "usage_usec") / 1000
	st.MemoryBytes = single("memory.current")
	st.OOMKills = keyed("memory.events", "oom_kill")
	st.PIDs = single("pids.current")
	st.PIDsRefused = keyed("pids.events", "max")
	needed := errors.Join(errs...)
	st.MaxMemoryBytes = single("memory.peak") // since Linux 5.19
	return st, needed
}

// legacyStats reads control groups of version 1.
func legacyStats(read func(string) (string, error)) (driver.Stats, error) {
	var st driver.Stats
	var errs []error
	single := func(file string) int64 { return singleValue(read, cgroupRoot+file, &errs) }
	st.CPUMS = single("cpuacct/cpuacct.usage") / int64(time.Millisecond)
	st.MemoryBytes = single("memory/memory.usage_in_bytes")
	st.MaxMemoryBytes = single("memory/memory.max_usage_in_bytes")
	st.OOMKills = keyedValue(read, cgroupRoot+"memory/memory.oom_control", "oom_kill", &errs)
	st.PIDs = single("pids/pids.current")
	st.PIDsRefused = keyedValue(read, cgroupRoot+"pids/pids.events", "max", &errs)
	return st, errors.Join(errs...)
}

func singleValue(read func(string) (string, error), file string, errs *[]error) int64 {
	text, err := read(file)
	if err == nil {
		var n int64
		if n, err = strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
			return n
		}
	}
	*errs = append(*errs, err)
	return 0
}

func keyedValue(read func(string) (string, error), file, key string, errs *[]error) int64 {
	text, err := read(file)
	if err != nil {
		*errs = append(*errs, err)
		return 0
	}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == key {
			if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
				return n
			}
		}
	}
	*errs = append(*errs, &faas.Error{Kind: faas.KindInternal, Op: "read control group", Detail: file + " has no " + key})
	return 0
}
