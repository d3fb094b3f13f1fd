package image

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	layerFS   = "fs"         // the tree
	layerMeta = "layer.json" // a layerRecord
)

// layerReport counts what unpacking could not keep.
type layerReport struct {
	Devices      int64 `json:"devices,omitempty"`       // device nodes skipped
	Xattrs       int64 `json:"xattrs,omitempty"`        // extended attributes dropped
	Capabilities int64 `json:"capabilities,omitempty"`  // file capabilities dropped
	ForeignIDs   int64 `json:"foreign_ids,omitempty"`   // entries whose uid or gid is out of range
	ImpliedDirs  int64 `json:"implied_dirs,omitempty"`  // directories that no entry describes
	XattrRefused int64 `json:"xattr_refused,omitempty"` // user.* attributes that the file system refused
}

func (r *layerReport) add(o layerReport) {
	r.Devices += o.Devices
	r.Xattrs += o.Xattrs
	r.Capabilities += o.Capabilities
	r.ForeignIDs += o.ForeignIDs
	r.ImpliedDirs += o.ImpliedDirs
	r.XattrRefused += o.XattrRefused
}

// sentences says it for users. keepsOwners is false in a store that is not
// root's.
func (r *layerReport) sentences(keepsOwners bool) []string {
	var out []string
	say := func(n int64, format string) {
		if n > 0 {
			out = append(out, fmt.Sprintf(format, n))
		}
	}
	if !keepsOwners {
		out = append(out, "every file belongs to the user who unpacked it: the store is not root's")
	}
	say(r.Devices, "%d device nodes were left out")
	say(r.Capabilities, "the file capabilities of %d files were dropped")
	say(r.Xattrs, "%d extended attributes outside user.* were dropped")
	say(r.XattrRefused, "%d extended attributes were refused by the store's file system")
	say(r.ForeignIDs, "%d files with an id above 65535 belong to nobody")
	return out
}

// layerRecord is what is written down of an unpacked layer.
type layerRecord struct {
	DiffID  string `json:"diff_id"`
	Bytes   int64  `json:"bytes"` // of file contents
	Entries int64  `json:"entries"`
	Opaque  bool   `json:"opaque,omitempty"` // see Layer.Opaque
	layerReport
}

// layerPath is the place of a layer, relative to the store.
func (s *Store) layerPath(diffID string) string {
	return layersDir + "/" + s.own.String() + "/" + strings.TrimPrefix(diffID, "sha256:")
}

func (s *Store) layerInfo(diffID string) (*layerRecord, error) {
	return readLayerRecord(s.path(s.layerPath(diffID)))
}

func readLayerRecord(dir string) (*layerRecord, error) {
	data, err := os.ReadFile(filepath.Join(dir, layerMeta))
	if err != nil {
		return nil, err
	}
	rec := &layerRecord{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("layer %s: %w", dir, err)
	}
	return rec, nil
}

func writeLayerRecord(dir string, rec *layerRecord) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, layerMeta), data, false)
}

// hasLayer says whether a layer is unpacked. Layers appear whole.
func (s *Store) hasLayer(diffID string) bool {
	_, err := os.Lstat(s.path(s.layerPath(diffID)))
	return err == nil
}
