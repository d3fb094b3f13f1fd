// Package layering holds the rules of the source tree itself: who may import
// whom, what every package must have, and what no file may contain. The linter
// has the import rules too (.golangci.yml), for editors; here they hold for
// the whole graph, on every platform, indirect imports included.
package layering
