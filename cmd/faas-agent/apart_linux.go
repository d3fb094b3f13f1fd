package main

import (
	"fmt"
	"syscall"

	"github.com/faas-platform/faas/guest/agent"
)

// capKill is Linux's CAP_KILL.
const capKill = 5

// harden sets the agent apart from its children. With a real user of its own
// they do not get CAP_KILL either.
func harden(s settings) agent.Protection {
	if s.realUser > 0 {
		return agent.Harden(capKill)
	}
	return agent.Harden()
}

// standApart takes the real user. The effective one, who makes files, stays
// root.
func standApart(s settings) error {
	if s.realUser == 0 {
		return nil
	}
	if err := syscall.Setresuid(int(s.realUser), 0, int(s.realUser)); err != nil {
		return fmt.Errorf("--real-user %d: %w", s.realUser, err)
	}
	return nil
}
