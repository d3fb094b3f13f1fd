package image

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/faas-platform/faas"
)

// partSuffix ends the name of a blob that is not whole yet.
const partSuffix = ".part"

// maxConnections bounds the connections that one download may take, however
// little each of them brings.
const maxConnections = 50

// blob is a packed layer on disk, verified, with the lock that keeps others
// from it.
type blob struct {
	path string
	lock *fileLock
}

// done lets go of the blob, and removes it when its layer is unpacked or never
// can be. After any other error the next pull unpacks it again.
func (b *blob) done(err error) {
	kind := faas.KindOf(err)
	if err == nil || kind == faas.KindInvalidArgument || kind == faas.KindPayloadTooLarge {
		_ = os.Remove(b.path) // a GC removes what stays
	}
	_ = b.lock.removeAndUnlock() // an empty file at worst
}

// fetch downloads the packed layer, going on where an earlier attempt of this
// or another process stopped.
func (p *puller) fetch(ctx context.Context, l resolvedLayer) (*blob, error) {
	hex := strings.TrimPrefix(l.digest, "sha256:")
	lock, err := lockPath(ctx, p.s.path(locksDir, "blob-"+hex), false, nil)
	if err != nil {
		return nil, storeError("lock", l.digest, err)
	}
	b := &blob{path: p.s.path(blobsDir, hex), lock: lock}
	if info, err := os.Stat(b.path); err == nil && info.Size() == l.size {
		return b, nil // an earlier process died between download and unpacking
	}
	d := &download{registry: p.registry, digest: l.digest, size: l.size,
		progress: p.report.step("download "+short(l.digest), l.size)}
	if err := d.run(ctx, b.path); err != nil {
		lock.removeAndUnlock() //nolint:errcheck // the first error says it
		return nil, err
	}
	return b, nil
}

// download is one blob on its way.
type download struct {
	registry *registry
	digest   string
	size     int64
	progress func(done int64)

	file *os.File
	hash hash.Hash
	have int64 // bytes in file, all of them in hash
}

// run downloads into path. A part file beside it is taken up and, when the
// download fails, left behind.
func (d *download) run(ctx context.Context, path string) (err error) {
	d.file, err = os.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return storeError("open", path, err)
	}
	defer func() { err = errors.Join(err, d.file.Close()) }()
	resumed, err := d.takeUp(ctx)
	if err != nil {
		return err
	}
	err = d.transfer(ctx)
	if err == nil {
		err = d.verify()
	}
	if err != nil && resumed && faas.KindOf(err) == faas.KindUnavailable && ctx.Err() == nil && d.have == d.size {
		// What was taken up may have been the damaged part.
		if err = d.restart(); err == nil {
			if err = d.transfer(ctx); err == nil {
				err = d.verify()
			}
		}
	}
	if err != nil {
		return err
	}
	if err := d.file.Sync(); err != nil {
		return storeError("write", path, err)
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return storeError("place", path, err)
	}
	return nil
}

// takeUp hashes what an earlier attempt left.
func (d *download) takeUp(ctx context.Context) (bool, error) {
	d.hash = sha256.New()
	n, err := io.Copy(d.hash, &meter{ctx: ctx, r: io.LimitReader(d.file, d.size+1)})
	if err != nil {
		return false, storeError("read", d.file.Name(), err)
	}
	if n > d.size {
		return false, d.restart()
	}
	d.have = n
	return n > 0, nil
}

func (d *download) restart() error {
	d.hash, d.have = sha256.New(), 0
	if err := d.file.Truncate(0); err != nil {
		return storeError("truncate", d.file.Name(), err)
	}
	_, err := d.file.Seek(0, io.SeekStart)
	return err
}

// verify compares the digest, and drops what does not match.
func (d *download) verify() error {
	got := fmt.Sprintf("sha256:%x", d.hash.Sum(nil))
	if got == d.digest {
		return nil
	}
	return errors.Join(damaged(d.digest, got), d.file.Truncate(0))
}

// transfer fetches the missing bytes over as many connections as it takes.
func (d *download) transfer(ctx context.Context) error {
	idle := 0
	for range maxConnections {
		if d.have == d.size {
			return nil
		}
		before := d.have
		err := d.connection(ctx)
		if err == nil {
			continue
		}
		if d.have > before {
			idle = 0
		}
		idle++
		if idle >= attempts || !transient(ctx, err) {
			return err
		}
		if err := pause(ctx, idle); err != nil {
			return err
		}
	}
	if d.have == d.size {
		return nil
	}
	return faas.Errorf(faas.KindUnavailable, "the registry broke the download of %s off %d times", short(d.digest), maxConnections)
}

// connection fetches over one connection until it ends.
func (d *download) connection(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallTimeout, func() {
		cancel(faas.Errorf(faas.KindUnavailable, "the registry sent nothing for %s", stallTimeout))
	})
	defer stalled.Stop()
	byteRange := ""
	if d.have > 0 {
		byteRange = fmt.Sprintf("bytes=%d-%d", d.have, d.size-1)
	}
	resp, err := d.registry.get(ctx, d.digest, byteRange)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()
	if err := d.position(resp); err != nil {
		return err
	}
	body := &meter{ctx: ctx, r: io.LimitReader(resp.Body, d.size-d.have), progress: func(int64) { stalled.Reset(stallTimeout) }}
	return causeOf(ctx, d.copy(body))
}

// position agrees with the registry where the answer begins.
func (d *download) position(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var start int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &start); err != nil || start != d.have {
			return errors.Join(io.ErrUnexpectedEOF, d.restart())
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(io.ErrUnexpectedEOF, d.restart())
	case http.StatusOK: // the whole of it, from registries without ranges
		if d.have > 0 {
			return d.restart()
		}
		return nil
	}
	return transport.CheckError(resp, http.StatusOK)
}

func (d *download) copy(body io.Reader) error {
	buffer := make([]byte, 256<<10)
	for d.have < d.size {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, err := d.file.Write(buffer[:n]); err != nil {
				return storeError("write", d.file.Name(), err)
			}
			d.hash.Write(buffer[:n])
			d.have += int64(n)
			d.progress(d.have)
		}
		if errors.Is(err, io.EOF) && d.have < d.size {
			return io.ErrUnexpectedEOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}

// causeOf replaces the error of a cancelled context by why it was cancelled.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
