// Command faas-agent is the program that runs inside every sandbox.
//
// It sets how many of its threads run by itself, so the runtime need not look
// through the control groups for that at every start.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package main

import (
	"fmt"
	"os"

	"github.com/faas-platform/faas/guest/launch"
	"github.com/faas-platform/faas/guest/machine"
)

// build names the agent's build; the linker may set it.
var build = "dev"

// subcommands are the agent's other uses; without one it serves.
var subcommands = map[string]func(args []string) int{
	"connect":           connect,
	"reseed":            reseedProcesses,
	launch.Command:      func([]string) int { return launch.Main() },
	launch.SpawnCommand: func([]string) int { return launch.Spawn() },
	machine.Command:     func([]string) int { return machine.Main() },
	"version":           func([]string) int { fmt.Println(build); return 0 },
}

func main() {
	if len(os.Args) > 1 {
		if run, ok := subcommands[os.Args[1]]; ok {
			os.Exit(run(os.Args[2:]))
		}
	}
	os.Exit(serve(os.Args[1:]))
}
