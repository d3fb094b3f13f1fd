package wire

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/faas-platform/faas"
)

// Oldest and Newest are the protocol versions that this build speaks.
const (
	Oldest = 1
	Newest = 1
)

// Layout of a hello: magic, oldest and newest version, four reserved bytes,
// nonce. The agent's is followed by its proof; the client's proof follows the
// agent's hello and goes out together with its first request.
const (
	magicSize = 8
	nonceSize = 32
	helloSize = magicSize + 8 + nonceSize
	proofSize = sha256.Size
)

// The magic of each direction holds bytes that no line discipline or text
// protocol passes unchanged, so that a wrong peer is noticed at once.
const (
	clientMagic = "faas\x00C\r\n"
	agentMagic  = "faas\x00A\r\n"
	clientLabel = "faas guest protocol: client proof"
	agentLabel  = "faas guest protocol: agent proof"
)

// Versions is a range of protocol versions.
type Versions struct{ Oldest, Newest uint16 }

// Supported is the range that this build speaks.
func Supported() Versions { return Versions{Oldest, Newest} }

// Agree returns the newest version in both ranges.
func Agree(a, b Versions) (int, bool) {
	v := min(a.Newest, b.Newest)
	return int(v), v >= max(a.Oldest, b.Oldest) && v > 0
}

func newHello(magic string, v Versions) []byte {
	b := make([]byte, helloSize)
	copy(b, magic)
	binary.BigEndian.PutUint16(b[magicSize:], v.Oldest)
	binary.BigEndian.PutUint16(b[magicSize+2:], v.Newest)
	rand.Read(b[helloSize-nonceSize:]) //nolint:errcheck // never fails since Go 1.24
	return b
}

func parseHello(magic string, b []byte) (Versions, error) {
	if string(b[:magicSize]) != magic {
		return Versions{}, fmt.Errorf("the peer does not speak the guest protocol (it began with %q)", b[:magicSize])
	}
	return Versions{
		Oldest: binary.BigEndian.Uint16(b[magicSize:]),
		Newest: binary.BigEndian.Uint16(b[magicSize+2:]),
	}, nil
}

// proof binds the secret to both hellos, versions included, so that neither
// can be replayed or changed under way.
func proof(secret []byte, label string, client, agent []byte) []byte {
	m := hmac.New(sha256.New, secret)
	io.WriteString(m, label) //nolint:errcheck // a hash does not fail
	m.Write(client)          //nolint:errcheck
	m.Write(agent)           //nolint:errcheck
	return m.Sum(nil)
}

// ClientHandshake sends the client's hello and checks the agent's. It returns
// the client's proof, which must precede whatever is written next: sending it
// together with the first request saves a flight.
func ClientHandshake(rw io.ReadWriter, secret []byte, speaks Versions) (version int, own []byte, err error) {
	if len(secret) == 0 {
		return 0, nil, faas.Errorf(faas.KindUnauthenticated, "no channel secret is configured for the agent")
	}
	hello := newHello(clientMagic, speaks)
	if _, err := rw.Write(hello); err != nil {
		return 0, nil, fmt.Errorf("send hello: %w", err)
	}
	answer := make([]byte, helloSize+proofSize)
	if _, err := io.ReadFull(rw, answer); err != nil {
		return 0, nil, fmt.Errorf("read the agent's hello: %w", err)
	}
	theirs, err := parseHello(agentMagic, answer)
	if err != nil {
		return 0, nil, err
	}
	if !hmac.Equal(answer[helloSize:], proof(secret, agentLabel, hello, answer[:helloSize])) {
		return 0, nil, &faas.Error{
			Kind:   faas.KindUnauthenticated,
			Detail: "the agent did not prove that it knows the sandbox's secret",
			Remedy: "the sandbox belongs to another installation, was restored with another secret, or is hostile",
		}
	}
	version, ok := Agree(speaks, theirs)
	if !ok {
		return 0, nil, &faas.Error{
			Kind: faas.KindFailedPrecondition,
			Detail: fmt.Sprintf("the agent speaks versions %d to %d of the guest protocol, this host %d to %d",
				theirs.Oldest, theirs.Newest, speaks.Oldest, speaks.Newest),
			Remedy: "use the version of faas that made the sandbox or snapshot, or a newer one",
		}
	}
	return version, proof(secret, clientLabel, hello, answer[:helloSize]), nil
}

// AgentHandshake answers a client's hello and checks its proof.
func AgentHandshake(rw io.ReadWriter, secret []byte, speaks Versions) (version int, err error) {
	if len(secret) == 0 {
		return 0, fmt.Errorf("no channel secret is configured")
	}
	hello := make([]byte, helloSize)
	if _, err := io.ReadFull(rw, hello); err != nil {
		return 0, fmt.Errorf("read the client's hello: %w", err)
	}
	theirs, err := parseHello(clientMagic, hello)
	if err != nil {
		return 0, err
	}
	answer := newHello(agentMagic, speaks)
	answer = append(answer, proof(secret, agentLabel, hello, answer)...)
	if _, err := rw.Write(answer); err != nil {
		return 0, fmt.Errorf("send hello: %w", err)
	}
	version, ok := Agree(speaks, theirs)
	if !ok {
		return 0, fmt.Errorf("the client speaks versions %d to %d, this agent %d to %d", theirs.Oldest, theirs.Newest, speaks.Oldest, speaks.Newest)
	}
	got := make([]byte, proofSize)
	if _, err := io.ReadFull(rw, got); err != nil {
		return 0, fmt.Errorf("read the client's proof: %w", err)
	}
	if !hmac.Equal(got, proof(secret, clientLabel, hello, answer[:helloSize])) {
		return 0, fmt.Errorf("the client did not prove that it knows the secret")
	}
	return version, nil
}
