package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/faas-platform/faas/driver/microvm"
)

// Run implements the command.
func (c *installKernelCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	cfg, err := line.load()
	if err != nil {
		return err
	}
	packages, err := microvm.KernelPackages(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(cfg.Data.Dir, "qemu")
	fmt.Printf("microVMs boot a kernel of this machine's distribution: %s.\n"+
		"It is downloaded by apt-get and unpacked below %s; nothing is installed into the system.\n", strings.Join(packages, ", "), dir)
	if c.Explain {
		return nil
	}
	kernel, err := microvm.InstallKernel(ctx, dir, packages)
	if err != nil {
		return err
	}
	fmt.Println(kernel)
	return nil
}
