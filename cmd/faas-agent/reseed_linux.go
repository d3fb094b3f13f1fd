package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strconv"

	"github.com/faas-platform/faas/guest/agent/reseed"
)

// reseedProcesses renews the random generators of every process but the agent
// that started it and prints what became of each.
func reseedProcesses(args []string) int {
	if len(args) != 0 {
		return fail(errors.New("usage: faas-agent reseed"))
	}
	agent := os.Getppid()
	outcomes, err := reseed.All(context.Background(), func(pid int) bool { return pid == agent })
	if encodeErr := json.NewEncoder(os.Stdout).Encode(outcomes); err == nil {
		err = encodeErr
	}
	if err != nil {
		return fail(errors.New(strconv.Itoa(len(outcomes)) + " generators done, then: " + err.Error()))
	}
	return 0
}
