// Package agent is the server inside a sandbox: it runs commands, moves files,
// and makes a pooled or restored sandbox someone's, as the host asks over the
// guest protocol.
//
// As PID 1 (Config.Init) it is the parent of everything that it starts: it
// reaps what is orphaned, ignores what its children do to it, and keeps its own
// few capabilities from them. As a library it serves the fake driver and tests
// in-process, on any unix system, without touching the process that it is in.
package agent
