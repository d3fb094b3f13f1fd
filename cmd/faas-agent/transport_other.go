//go:build unix && !linux

package main

import (
	"errors"
	"syscall"
)

const soAcceptConn = syscall.SO_ACCEPTCONN

var errLinuxOnly = errors.New("only on Linux")

func serveDevices(s settings) (server, error) {
	if s.device == "" {
		return nil, nil
	}
	return nil, errLinuxOnly
}

func serveVsock(s settings) (server, error) {
	if s.vsock == 0 {
		return nil, nil
	}
	return nil, errLinuxOnly
}

func powerOff() {}

func serveMachine(s settings) (server, error) {
	if s.machine.Device == "" {
		return nil, nil
	}
	return nil, errLinuxOnly
}
