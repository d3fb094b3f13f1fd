//go:build !linux

package wire

// sendPipe copies: only Linux moves pages.
func (o *Outbox) sendPipe(p Pipe) (int64, error) { return o.copyFrom(p) }
