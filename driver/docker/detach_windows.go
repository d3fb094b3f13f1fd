package docker

import (
	"os/exec"
	"syscall"
)

// detach keeps a console's interrupt away from a program of the driver, and
// opens no window for it.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{HideWindow: true, CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
