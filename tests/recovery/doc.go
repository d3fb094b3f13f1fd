// Package recovery holds the test that kills the daemon: a real `faas serve`
// is killed at random moments of its work and started again, and nothing of
// what it had begun may be left on the machine or missing from its records.
package recovery
