// Package reseed renews the random number generators that live in the memory
// of running programs, after a snapshot of that memory was restored.
//
// The kernel's sources differ in every copy by themselves. A generator in a
// program's own memory does not: every copy of one snapshot would hand out
// the same session keys, tokens and nonces. Two kinds can be renewed from
// outside before the program continues:
//
//   - OpenSSL keeps its generator behind RAND_poll. The call is made inside
//     the process, on one of its own threads, by ptrace.
//   - BoringSSL, AWS-LC and others that keep a page marked MADV_WIPEONFORK
//     take a zeroed page for a fork and seed anew. The page is zeroed.
//
// Everything else (a Mersenne Twister, numbers drawn ahead of need) repeats
// and needs the program's own hook.
//
// The package waits for traced processes with wait4 on their ids, so it must
// run in a process that reaps no others: the agent starts itself anew for it.
package reseed

// Method says how a generator was renewed.
type Method string

// The methods.
const (
	MethodRandPoll Method = "RAND_poll"  // OpenSSL 1.1.1 and 3
	MethodWipe     Method = "wipeonfork" // BoringSSL, AWS-LC and others
)

// Outcome is what happened to one generator of one process.
type Outcome struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Library string `json:"library,omitempty"` // the mapped file that holds it
	Method  Method `json:"method"`
	Done    bool   `json:"done"`
	Reason  string `json:"reason,omitempty"` // why not, when not Done
}
