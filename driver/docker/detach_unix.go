//go:build !windows

package docker

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's interrupt away from a program of the driver.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
