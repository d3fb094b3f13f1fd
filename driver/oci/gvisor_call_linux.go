package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxAnswer bounds an answer of gVisor's kernel, in bytes: a table of all its
// processes, or the stacks of its threads.
const maxAnswer = 32 << 20

// call asks gVisor's kernel over the control socket that the runsc program
// uses too: one JSON object each way, and files with the request. Starting the
// program instead takes some 25 ms a time.
func (s *gvisorSandbox) call(ctx context.Context, method string, arg, result any, files ...*os.File) error {
	path := filepath.Join(s.driver.work.Path(s.id), controlSocket)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	request, err := json.Marshal(struct {
		Method string `json:"method"`
		Arg    any    `json:"arg"`
	}{method, arg})
	if err != nil {
		return err
	}
	if err := sendWithFiles(conn.(*net.UnixConn), request, files); err != nil {
		return errors.Join(err, ctx.Err())
	}
	answer := struct {
		Success bool   `json:"success"`
		Err     string `json:"err"`
		Result  any    `json:"result"`
	}{Result: result}
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&answer); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", method, err), ctx.Err())
	}
	if !answer.Success {
		return fmt.Errorf("%s: %s", method, answer.Err)
	}
	return nil
}

// sendWithFiles writes a request, the files with its first bytes.
func sendWithFiles(conn *net.UnixConn, request []byte, files []*os.File) error {
	if len(files) == 0 {
		_, err := conn.Write(request)
		return err
	}
	descriptors := make([]int, len(files))
	for i, f := range files {
		descriptors[i] = int(f.Fd())
	}
	n, _, err := conn.WriteMsgUnix(request, unix.UnixRights(descriptors...), nil)
	if err == nil && n < len(request) {
		_, err = conn.Write(request[n:])
	}
	return err
}
