package sshd

import (
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// globalRequests answers the requests that concern the whole connection.
func (c *connection) globalRequests() {
	for request := range c.requests {
		ok, payload := c.globalRequest(request)
		if request.WantReply {
			request.Reply(ok, payload) //nolint:errcheck // the connection has ended then
		}
	}
}

func (c *connection) globalRequest(request *ssh.Request) (ok bool, payload []byte) {
	switch request.Type {
	case "keepalive@openssh.com":
		return true, nil
	case "tcpip-forward":
		return c.forwardTCP(request.Payload)
	case "cancel-tcpip-forward":
		return c.cancelTCP(request.Payload), nil
	case "streamlocal-forward@openssh.com":
		return c.forwardSocket(request.Payload), nil
	case "cancel-streamlocal-forward@openssh.com":
		return c.cancelSocket(request.Payload), nil
	case "hostkeys-prove-00@openssh.com":
		return c.proveHostKeys(request.Payload)
	}
	return false, nil
}

// announceHostKeys tells the client every key of this host, those that a
// rotation has announced included, so that it knows them when they count.
func (c *connection) announceHostKeys() {
	var payload []byte
	for _, key := range c.server.opts.HostKeys.All() {
		payload = append(payload, ssh.Marshal(struct{ Key []byte }{key.PublicKey().Marshal()})...)
	}
	c.ssh.SendRequest("hostkeys-00@openssh.com", false, payload) //nolint:errcheck // the connection has ended then
}

// proveHostKeys shows that this host has the private parts of the keys that
// the client asks about.
func (c *connection) proveHostKeys(payload []byte) (bool, []byte) {
	var answer []byte
	for len(payload) > 0 {
		var asked struct {
			Key  []byte
			Rest []byte `ssh:"rest"`
		}
		if ssh.Unmarshal(payload, &asked) != nil {
			return false, nil
		}
		payload = asked.Rest
		signature := c.proveHostKey(asked.Key)
		if signature == nil {
			return false, nil
		}
		answer = append(answer, ssh.Marshal(struct{ Signature []byte }{ssh.Marshal(signature)})...)
	}
	return len(answer) > 0, answer
}

func (c *connection) proveHostKey(blob []byte) *ssh.Signature {
	for _, key := range c.server.opts.HostKeys.All() {
		if string(key.PublicKey().Marshal()) != string(blob) {
			continue
		}
		signature, err := key.Sign(rand.Reader, ssh.Marshal(struct {
			What    string
			Session []byte
			Key     []byte
		}{"hostkeys-prove-00@openssh.com", c.ssh.SessionID(), blob}))
		if err != nil {
			return nil
		}
		return signature
	}
	return nil
}
