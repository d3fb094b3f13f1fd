package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/faas-platform/faas/guest/launch"
)

// Command is the argument of the agent's executable that runs Main.
const Command = "machine"

// Names inside the initial file system.
const (
	ModulesDir  = "/modules"       // of the kernel, NAME.ko
	ModulesList = "/modules/order" // their names, a line each, in the order in which they are loaded
)

// Ports of the virtio-serial device: Streams carry the guest protocol, one
// connection each, Control is for Serve.
const (
	ControlPort = 1
	FirstStream = 2
	Streams     = 4
	lastPort    = FirstStream + Streams - 1
)

// Config says what the sandbox of a machine is made of.
type Config struct {
	// Lower are the read-only layers, topmost first.
	Lower []Drive `json:"lower"`
	// Writable is the layer of changes; nil for a read-only root.
	Writable *Drive `json:"writable,omitempty"`
	// MemoryBytes and PIDs limit the sandbox within the machine; 0: not.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	PIDs        int64 `json:"pids,omitempty"`
	// Launch is the rest, without a root, mounts of devices and arguments,
	// which Main fills in.
	Launch launch.Config `json:"launch"`
}

// Drive is one block device of the machine.
type Drive struct {
	Type string `json:"type"` // of its file system
	Sum  string `json:"sum"`  // SumOf its beginning
}

// Sizes in bytes.
const (
	sumBytes  = 4096
	blockSize = 512
	maxConfig = launch.MaxConfig
)

// magic begins the drive that holds a Config.
const magic = "faas machine 1\n"

// SumOf names a drive by its first 4096 bytes, or all of it when it is shorter.
func SumOf(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, sumBytes))
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), err
}

// Encode returns the content of the configuration's drive.
func (c *Config) Encode() ([]byte, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(body) > maxConfig {
		return nil, fmt.Errorf("the configuration takes %d bytes, %d at most", len(body), maxConfig)
	}
	var b bytes.Buffer
	b.WriteString(magic + strconv.Itoa(len(body)) + "\n")
	b.Write(body)
	b.Write(make([]byte, (blockSize-b.Len()%blockSize)%blockSize))
	return b.Bytes(), nil
}

// decode reads what Encode wrote; false when it is another drive.
func decode(r io.Reader) (*Config, bool, error) {
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return nil, false, nil
	}
	var length []byte
	for one := make([]byte, 1); len(length) < 10; length = append(length, one[0]) {
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, true, err
		}
		if one[0] == '\n' {
			break
		}
	}
	n, err := strconv.Atoi(string(length))
	if err != nil || n < 0 || n > maxConfig {
		return nil, true, fmt.Errorf("bad length %q", length)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, true, err
	}
	c := new(Config)
	return c, true, json.Unmarshal(body, c)
}
