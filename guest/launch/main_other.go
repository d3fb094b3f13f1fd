//go:build !linux

package launch

// Main fails: sandboxes are made of Linux namespaces.
func Main() int { return 1 }

// Spawn fails, as Main does.
func Spawn() int { return 1 }
