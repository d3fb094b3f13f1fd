// Package imagetest builds small real container images from the programs of
// this machine, and serves them from a real registry on loopback, for tests
// and benchmarks: nothing is downloaded. Built layers are cached below the
// directory for temporary files, by what they were built from.
package imagetest
