package docker

// agentArguments are those of the agent as the container's first process.
func agentArguments() []string {
	return []string{"--listen", "unix:" + agentSocket, "--secret-file", "-"}
}

// shimCommand connects its standard streams to the agent's socket.
func shimCommand() []string { return []string{agentPath, "connect", agentSocket} }
