package microvm

import (
	"strconv"
	"sync"
	"time"
)

// timestamp reads the processor's time stamp counter.
func timestamp() uint64

// tscWindow is how long the counter is watched. Reading it beside the clock is
// off by a microsecond at most, unless the thread is interrupted just there.
const tscWindow = 20 * time.Millisecond

// tscArgument tells a kernel how fast the counter is. A machine that finds its
// devices by ACPI has no timer of old to measure it by, and without KVM nobody
// tells it: its kernel would wait for ever. QEMU's software shows it the host's
// own counter.
var tscArgument = sync.OnceValue(func() string {
	began, first := time.Now(), timestamp()
	time.Sleep(tscWindow)
	last, took := timestamp(), time.Since(began)
	return " tsc_early_khz=" + strconv.FormatUint((last-first)*uint64(time.Millisecond)/uint64(took), 10) //nolint:gosec // both are positive
})
