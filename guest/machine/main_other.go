//go:build !linux

package machine

import (
	"context"
	"errors"
)

var errLinuxOnly = errors.New("microVMs of faas run Linux")

// Main fails: microVMs run Linux.
func Main() int { return 2 }

// Serve fails: microVMs run Linux.
func Serve(context.Context, Places) error { return errLinuxOnly }
