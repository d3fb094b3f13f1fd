package docker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/faas-platform/faas"
	"github.com/faas-platform/faas/network"
)

// record is what the driver keeps of one sandbox below Dir/sandboxes, from
// before its container exists until it is gone.
type record struct {
	Container string              `json:"container"`  // id in the engine; empty until created
	Owner     string              `json:"owner"`      // token of the driver process that answers for it
	Secret    []byte              `json:"secret"`     // of the channel
	Agent     string              `json:"agent"`      // digest of the agent inside
	Spec      faas.Spec           `json:"spec"`       // without the environment, which may hold secrets
	DiskLimit bool                `json:"disk_limit"` // enforced by the engine
	Network   *network.Attachment `json:"network,omitempty"`
	Saving    *saving             `json:"saving,omitempty"` // a snapshot that is under way
	CreatedAt time.Time           `json:"created_at"`
}

// validName says whether an id can be part of a path and of a container name.
func validName(id string) bool {
	if len(id) == 0 || len(id) > 63 || id[0] == '-' {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (d *Driver) sandboxesDir() string        { return filepath.Join(d.opts.Dir, "sandboxes") }
func (d *Driver) recordPath(id string) string { return filepath.Join(d.sandboxesDir(), id+".json") }

// unfinished is a new name for a file that is being written. It holds the
// owner's token, by which a sweep finds what a killed process did not finish.
func (d *Driver) unfinished() string {
	return filepath.Join(d.unfinishedDir(), d.owner.token+"."+randomHex(4))
}

func (d *Driver) unfinishedDir() string { return filepath.Join(d.opts.Dir, "unfinished") }

// sweepUnfinished removes the files that dead processes did not finish.
func (d *Driver) sweepUnfinished() error {
	entries, err := os.ReadDir(d.unfinishedDir())
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "list unfinished files", Err: err}
	}
	var errs []error
	for _, e := range entries {
		token, _, _ := strings.Cut(e.Name(), ".")
		if d.owner.alive(token) {
			continue
		}
		if err := os.Remove(filepath.Join(d.unfinishedDir(), e.Name())); !isNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// maxRecordSize bounds one record, in bytes.
const maxRecordSize = 1 << 20

func (d *Driver) readRecord(id string) (record, error) {
	var rec record
	b, err := readSmall(d.recordPath(id), maxRecordSize)
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	return rec, err
}

// writeRecord replaces a record at once: a crash leaves the old or the new.
func (d *Driver) writeRecord(id string, rec record) error {
	rec.Spec.Env = nil
	b, err := json.Marshal(rec)
	if err == nil {
		err = writeFile(d.unfinished(), d.recordPath(id), b)
	}
	if err != nil {
		return &faas.Error{Kind: faas.KindInternal, Op: "record docker sandbox", Detail: "sandbox " + id, Err: err}
	}
	return nil
}

// removeRecord forgets a sandbox; one that is not known is no error.
func (d *Driver) removeRecord(id string) error {
	if err := os.Remove(d.recordPath(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &faas.Error{Kind: faas.KindInternal, Op: "forget docker sandbox", Detail: "sandbox " + id, Err: err}
	}
	return nil
}

// recorded lists the ids that have a record.
func (d *Driver) recorded() ([]string, error) {
	entries, err := os.ReadDir(d.sandboxesDir())
	if err != nil {
		return nil, &faas.Error{Kind: faas.KindInternal, Op: "list docker sandboxes", Err: err}
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && validName(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// openInstallation makes the directory when it is missing and returns the id
// that tells its objects in an engine from those of other installations.
func openInstallation(dir string) (string, error) {
	fail := func(err error) (string, error) {
		return "", &faas.Error{Kind: faas.KindInternal, Op: "open directory of the docker driver", Detail: dir, Err: err}
	}
	for _, sub := range []string{"sandboxes", "unfinished"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fail(err)
		}
	}
	path := filepath.Join(dir, "installation")
	for {
		b, err := readSmall(path, 64)
		if err == nil {
			if id := string(b); validName(id) {
				return id, nil
			}
			return fail(fmt.Errorf("%s does not hold an id", path))
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fail(err)
		}
		if err := claimFile(path+"."+randomHex(4), path, []byte(randomHex(8))); err != nil && !errors.Is(err, os.ErrExist) {
			return fail(err)
		}
	}
}

// claimFile writes a whole file, by way of tmp, under a name that must not
// exist yet; of several that try, one succeeds and the others get os.ErrExist.
func claimFile(tmp, path string, content []byte) error {
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		return err
	}
	defer os.Remove(tmp)
	return os.Link(tmp, path)
}

// writeFile replaces a file at once, by way of tmp, readable by its owner alone.
func writeFile(tmp, path string, content []byte) error {
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // crypto/rand.Read never fails
	return hex.EncodeToString(b)
}
