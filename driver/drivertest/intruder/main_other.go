//go:build !linux

// The intruder runs inside sandboxes, which run Linux.
package main

func main() { panic("the intruder is a program for Linux") }
