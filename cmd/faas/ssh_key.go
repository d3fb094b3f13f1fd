package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/api"
	"github.com/faas-platform/faas/client"
)

type sshKeyCommand struct {
	Create createSSHKeyCommand `cmd:"" help:"Generate a key; the server does not keep its private part."`
	Import importSSHKeyCommand `cmd:"" help:"Let a public key that you have log in."`
	Ls     listSSHKeysCommand  `cmd:"" help:"List keys."`
	Rm     removeSSHKeyCommand `cmd:"" help:"Revoke keys; their open sessions end at once."`
	Rotate rotateSSHKeyCommand `cmd:"" help:"Put a new key into the place of another."`
}

// sshKeyOptions are what keys have in common.
type sshKeyOptions struct {
	Server      string        `help:"Server to ask (default: api.url)." placeholder:"URL"`
	Name        string        `help:"For people." placeholder:"NAME"`
	Instance    []string      `help:"Instance that it may log in to, by id or name; several: to each (default: to all)." placeholder:"INSTANCE"`
	TTL         time.Duration `name:"ttl" help:"How long it logs in, such as 720h (default: until it is revoked)." placeholder:"TIME"`
	MaxSessions int           `help:"Connections at one time (default: as the server's configuration says)." placeholder:"N"`
}

// request turns the options into the API's terms.
func (o *sshKeyOptions) request(ctx context.Context, remote *client.Client) (api.SSHKeyRequest, error) {
	request := api.SSHKeyRequest{Name: o.Name, TTLMS: o.TTL.Milliseconds(), MaxSessions: o.MaxSessions}
	for _, ref := range o.Instance {
		about, err := remote.InstanceSSH(ctx, ref)
		if err != nil {
			return request, err
		}
		request.InstanceIDs = append(request.InstanceIDs, about.InstanceID)
	}
	return request, nil
}

type createSSHKeyCommand struct {
	sshKeyOptions
	Type string `enum:"ed25519,ecdsa,rsa" default:"ed25519" help:"${enum}."`
	Bits int    `help:"Size of an ecdsa or rsa key." placeholder:"N"`
	File string `arg:"" optional:"" help:"File for the private key, made with .pub beside it (default: standard output)."`
}

// Run implements the command.
func (c *createSSHKeyCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	request, err := c.request(ctx, remote)
	if err != nil {
		return err
	}
	request.Type, request.Bits = c.Type, c.Bits
	// The file first: a key that cannot be kept must not be made.
	out, err := createKeyFile(c.File)
	if err != nil {
		return err
	}
	made, err := remote.CreateSSHKey(ctx, request)
	if err != nil {
		out.discard()
		return err
	}
	return out.keep(made)
}

// keyFile is where a private key goes.
type keyFile struct {
	path string
	file *os.File
}

func createKeyFile(path string) (*keyFile, error) {
	if path == "" {
		return &keyFile{file: os.Stdout}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindFailedPrecondition, Op: "make a key file", Detail: path, Remedy: "name a file that is not there", Err: err}
	}
	return &keyFile{path: path, file: f}, nil
}

func (k *keyFile) discard() {
	if k.path != "" {
		k.file.Close()
		os.Remove(k.path)
	}
}

// keep writes a key, and says which it is.
func (k *keyFile) keep(made *api.SSHKeyCreated) error {
	if _, err := k.file.WriteString(made.PrivateKey); err != nil {
		return err
	}
	if k.path != "" {
		if err := k.file.Close(); err != nil {
			return err
		}
		if err := os.WriteFile(k.path+".pub", []byte(made.PublicKey+"\n"), 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "%s %s %s\n", made.ID, made.Type, made.Fingerprint)
	return nil
}

type importSSHKeyCommand struct {
	sshKeyOptions
	File string `arg:"" help:"Public key, such as ~/.ssh/id_ed25519.pub." type:"existingfile"`
}

// Run implements the command.
func (c *importSSHKeyCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	request, err := c.request(ctx, remote)
	if err != nil {
		return err
	}
	if request.PublicKey, err = readPublicKey(c.File); err != nil {
		return err
	}
	made, err := remote.CreateSSHKey(ctx, request)
	if err != nil {
		return err
	}
	fmt.Println(made.ID, made.Type, made.Fingerprint)
	return nil
}

// maxPublicKeyFile bounds the file of a public key.
const maxPublicKeyFile = 64 << 10

func readPublicKey(path string) (string, error) {
	content, err := readFile(path, maxPublicKeyFile)
	if strings.Contains(string(content), "PRIVATE KEY") {
		return "", faas.InvalidField("file", "%s is a private key, which stays with you: name the file that ends in .pub", path)
	}
	return strings.TrimSpace(string(content)), err
}

type listSSHKeysCommand struct {
	Server       string `help:"Server to ask (default: api.url)." placeholder:"URL"`
	Certificates bool   `help:"List certificates, too."`
	JSON         bool   `help:"Print JSON."`
}

// Run implements the command.
func (c *listSSHKeysCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	filter := faas.SSHKeyFilter{Kind: faas.SSHKeyPlain, Limit: 1000}
	if c.Certificates {
		filter.Kind = ""
	}
	all := []faas.SSHKey{}
	for {
		page, err := remote.SSHKeys(ctx, filter)
		if err != nil {
			return err
		}
		all = append(all, page.SSHKeys...)
		if filter.Cursor = page.NextCursor; filter.Cursor == "" {
			break
		}
	}
	if c.JSON {
		return printJSON(map[string]any{"ssh_keys": all})
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tKIND\tTYPE\tFINGERPRINT\tINSTANCES\tEXPIRES\tLAST USED")
	for _, k := range all {
		instances := "all"
		if len(k.InstanceIDs) > 0 {
			instances = strings.Join(k.InstanceIDs, ",")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Kind, k.Type, k.Fingerprint, instances, timeText(k.ExpiresAt), timeText(k.LastUsedAt))
	}
	return table.Flush()
}

func timeText(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

type removeSSHKeyCommand struct {
	Server string   `help:"Server to ask (default: api.url)." placeholder:"URL"`
	IDs    []string `arg:"" name:"id" help:"Keys or certificates."`
}

// Run implements the command.
func (c *removeSSHKeyCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	for _, id := range c.IDs {
		gone, err := remote.RevokeSSHKey(ctx, id)
		if err != nil {
			return err
		}
		fmt.Println("revoked", gone.ID, gone.Fingerprint)
	}
	return nil
}

type rotateSSHKeyCommand struct {
	Server    string        `help:"Server to ask (default: api.url)." placeholder:"URL"`
	Overlap   time.Duration `default:"24h" help:"How long the old key logs in still."`
	PublicKey string        `help:"The new public key (default: one like the old is generated)." placeholder:"FILE" type:"existingfile"`
	ID        string        `arg:"" help:"Key to replace."`
	File      string        `arg:"" optional:"" help:"File for the new private key (default: standard output)."`
}

// Run implements the command.
func (c *rotateSSHKeyCommand) Run(line *commands) error {
	ctx, stop := interruptible()
	defer stop()
	remote, err := line.remote(c.Server)
	if err != nil {
		return err
	}
	overlap := c.Overlap.Milliseconds()
	request := api.SSHRotateRequest{OverlapMS: &overlap}
	if c.PublicKey != "" {
		if request.PublicKey, err = readPublicKey(c.PublicKey); err != nil {
			return err
		}
	}
	out, err := createKeyFile(c.File)
	if err != nil {
		return err
	}
	made, err := remote.RotateSSHKey(ctx, c.ID, request)
	if err != nil {
		out.discard()
		return err
	}
	return out.keep(made)
}
