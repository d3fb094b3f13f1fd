package guest

import (
	"crypto/hmac"
	"crypto/sha256"
)

// DialOutProof is what an agent that dials out (faas-agent --dial) sends first
// on every connection, so that the host can tell it from other processes of
// the sandbox that found the same socket. It is made of the secret that the
// agent was started with, also after the channel's secret has changed. The
// host takes a connection by sending one byte of any value; what follows is
// the protocol.
func DialOutProof(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("faas agent dials out 1"))
	return mac.Sum(nil)
}
