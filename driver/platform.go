package driver

import "github.com/faas-platform/faas"

// Platform is a kind of machine that faas runs on.
type Platform string

// The platforms that are told apart, in the order in which they are shown.
const (
	LinuxRoot Platform = "Linux, root"
	LinuxUser Platform = "Linux, any user"
	MacOS     Platform = "macOS"
	Windows   Platform = "Windows"
)

// Platforms lists them.
func Platforms() []Platform { return []Platform{LinuxRoot, LinuxUser, MacOS, Windows} }

// Support is what one runtime does on a platform at best. A probe says what it
// does on a machine; both use the same words.
type Support struct {
	Feature faas.Feature
	Offered bool
	Needs   string // what it takes besides the runtime itself, when offered
	Reason  string // why not, when not offered
	Remedy  string // what to use instead, or how to get more
}

// Unsupported is the answer of a runtime that a platform does not have.
func Unsupported(reason, remedy string) []Support {
	out := make([]Support, 0, len(faas.Features()))
	for _, f := range faas.Features() {
		out = append(out, Support{Feature: f, Reason: reason, Remedy: remedy})
	}
	return out
}

// Offer is the answer of a runtime that offers every feature but those in
// except, whose rows it takes over.
func Offer(except ...Support) []Support {
	out := make([]Support, 0, len(faas.Features()))
	for _, f := range faas.Features() {
		row := Support{Feature: f, Offered: true}
		for _, e := range except {
			if e.Feature == f {
				row = e
			}
		}
		out = append(out, row)
	}
	return out
}
