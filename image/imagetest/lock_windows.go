package imagetest

import "context"

// lockFile locks nothing: on Windows two builds at once do the work twice.
func lockFile(context.Context, string) (func(), error) { return func() {}, nil }
