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

// insideTimeout bounds the reading of control groups by the agent.
const insideTimeout = 2 * time.Second

// Stats implements driver.Sandbox. The figures are the kernel's, of the
// sandbox's control groups: read past the engine on this machine, by the agent
// elsewhere, since an engine takes up to a second for a sample and does not
// count what was killed or refused. Where the agent does not answer, the
// engine is asked.
func (s *sandbox) Stats(ctx context.Context) (driver.Stats, error) {
	const op = "read consumption of docker sandbox"
	if s.gone() {
		return driver.Stats{}, &faas.Error{Kind: faas.KindNotFound, Op: op, Detail: "sandbox " + s.id + " was destroyed"}
	}
	s.mu.Lock()
	direct, p, paused := s.direct, s.process, s.paused
	s.mu.Unlock()
	if direct {
		if st, err := groupStats(p.readFile); err == nil {
			return st, nil
		}
	} else if !paused {
		if st, err := s.insideStats(ctx); err == nil {
			return st, nil
		}
	}
	st, err := s.engineStats(ctx)
	if err != nil {
		return driver.Stats{}, opError(op, "sandbox "+s.id, err)
	}
	return st, nil
}

// insideStats has the agent read the control groups.
func (s *sandbox) insideStats(ctx context.Context) (driver.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, insideTimeout)
	defer cancel()
	c := s.insideClient()
	return groupStats(func(name string) (string, error) {
		r, _, err := c.ReadFile(ctx, name, 0, -1)
		if err != nil {
			return "", err
		}
		defer r.Close()
		b, err := io.ReadAll(io.LimitReader(r, 16<<10))
		return string(b), err
	})
}

// maxStatsSize bounds the engine's answer, in bytes.
const maxStatsSize = 1 << 20

// engineStats asks the engine for one sample.
func (s *sandbox) engineStats(ctx context.Context) (driver.Stats, error) {
	info, err := s.d.engine.inspect(ctx, s.container())
	if err != nil {
		return driver.Stats{}, err
	}
	if info.State == nil || !info.State.Running {
		var st driver.Stats
		if info.State != nil && info.State.OOMKilled {
			st.OOMKills = 1
		}
		return st, nil
	}
	var raw container.StatsResponse
	err = s.d.engine.call(ctx, askTimeout, func(ctx context.Context, api *client.Client) error {
		res, err := api.ContainerStats(ctx, s.container(), client.ContainerStatsOptions{})
		if err != nil {
			return err
		}
		defer res.Body.Close()
		return json.NewDecoder(io.LimitReader(res.Body, maxStatsSize)).Decode(&raw)
	})
	return driver.Stats{
		CPUMS:          int64(raw.CPUStats.CPUUsage.TotalUsage / 1e6), //nolint:gosec // 292 years
		MemoryBytes:    int64(raw.MemoryStats.Usage),                  //nolint:gosec // bytes of this world
		MaxMemoryBytes: int64(raw.MemoryStats.MaxUsage),               //nolint:gosec // likewise
		PIDs:           int64(raw.PidsStats.Current),                  //nolint:gosec // likewise
	}, err
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

// closeInside ends the driver's own client; the next use makes another.
func (s *sandbox) closeInside() {
	s.mu.Lock()
	inside := s.inside
	s.inside = nil
	s.mu.Unlock()
	if inside != nil {
		_ = inside.Close()
	}
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
