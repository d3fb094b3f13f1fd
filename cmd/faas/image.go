package main

type imageCommand struct{}

// Run implements the command.
func (c *imageCommand) Run() error { return nil }
