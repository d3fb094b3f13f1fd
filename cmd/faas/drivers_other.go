//go:build !linux

package main

// native is empty where there is no Linux kernel.
var native []opener
