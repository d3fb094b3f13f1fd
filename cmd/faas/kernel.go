package main

type kernelCommand struct {
	Install installKernelCommand `cmd:"" help:"Unpack a kernel of this machine's distribution for microVMs."`
}

type installKernelCommand struct {
	Explain bool `help:"Say what would be downloaded, and stop."`
}
