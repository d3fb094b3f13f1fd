// Package contract runs one table of scenarios, testdata/scenarios.json,
// through the three SDKs against a real gateway, over a proxy that breaks
// connections when a scenario says so.
package contract
