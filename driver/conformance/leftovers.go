package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// NothingLeft waits a short while until nothing on this machine carries the
// sandbox's id: what a driver left to the kernel (a dying process) may take a
// moment, what it forgot stays.
func (e *Env) NothingLeft(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return eventually(ctx, func() error {
		left := machineLeftovers(id, e.StateDir)
		if e.Leftovers != nil {
			more, err := e.Leftovers(ctx, id)
			if err != nil {
				return fmt.Errorf("look for leftovers of %s: %w", id, err)
			}
			left = append(left, more...)
		}
		if len(left) > 0 {
			return fmt.Errorf("of sandbox %s is left: %s", id, strings.Join(left, "; "))
		}
		return nil
	})
}
