//go:build unix && !linux

package main

import (
	"errors"

	"github.com/faas-platform/faas/guest/agent"
)

func harden(settings) agent.Protection { return agent.Harden() }

func standApart(s settings) error {
	if s.realUser > 0 {
		return errors.New("--real-user is for Linux")
	}
	return nil
}
