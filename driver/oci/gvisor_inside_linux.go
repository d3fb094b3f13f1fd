package oci

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// insideFile names a file of the control group in gVisor's own kernel that
// holds all processes of a sandbox.
type insideFile struct {
	Controller string `json:"controller"`
	Path       string `json:"path"`
	Name       string `json:"name"`
}

func pidsFile(name string) insideFile {
	return insideFile{Controller: "pids", Path: "/" + containerName, Name: name}
}

// insideResults is the answer for several files.
type insideResults struct {
	Results []struct {
		Value   string `json:"value"`
		IsError bool   `json:"is_error"`
	} `json:"results"`
}

// values returns what was read or written.
func (r insideResults) values(want int) ([]string, error) {
	if len(r.Results) != want {
		return nil, fmt.Errorf("gVisor answers for %d files of %d", len(r.Results), want)
	}
	out := make([]string, want)
	for i, one := range r.Results {
		if one.IsError {
			return nil, errors.New("gVisor: " + one.Value)
		}
		out[i] = strings.TrimSpace(one.Value)
	}
	return out, nil
}

// limitProcesses sets the limit that commands inside meet.
func (s *gvisorSandbox) limitProcesses(ctx context.Context, n int64) error {
	if n <= 0 {
		return nil
	}
	type write struct {
		File  insideFile `json:"file"`
		Value string     `json:"value"`
	}
	var arg struct {
		Args []write `json:"args"`
	}
	arg.Args = []write{{pidsFile("pids.max"), strconv.FormatInt(n, 10)}}
	var answer insideResults
	if err := s.call(ctx, "Cgroups.WriteControlFiles", arg, &answer); err != nil {
		return err
	}
	_, err := answer.values(1)
	return err
}

// processes counts the processes and threads inside and the forks that were
// refused.
func (s *gvisorSandbox) processes(ctx context.Context) (running, refused int64, err error) {
	type read struct {
		File insideFile `json:"file"`
	}
	var arg struct {
		Args []read `json:"args"`
	}
	arg.Args = []read{{pidsFile("pids.current")}, {pidsFile("pids.events")}}
	var answer insideResults
	if err := s.call(ctx, "Cgroups.ReadControlFiles", arg, &answer); err != nil {
		return 0, 0, err
	}
	values, err := answer.values(2)
	if err != nil {
		return 0, 0, err
	}
	running, err = strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return 0, 0, err
	}
	refused, err = strconv.ParseInt(strings.TrimPrefix(values[1], "max "), 10, 64)
	return running, refused, err
}
