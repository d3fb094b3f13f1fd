package criu

import (
	"path/filepath"

	"github.com/checkpoint-restore/go-criu/v8/crit/images/fdinfo"
	"google.golang.org/protobuf/proto"
)

// RearmTimers has the timers that processes hold as descriptors run on in a
// restored tree. The kernel starts a repeating one again only when its reader
// has come; one that had expired and was not read yet is saved as disarmed, and
// would never fire again. It is made to fire one interval after the restore;
// what had expired before stays to be read.
func RearmTimers(images string) error {
	files, err := readImage[fdinfo.FileEntry](filepath.Join(images, "files.img"))
	if err != nil {
		return err
	}
	changed := false
	for _, f := range files.entries {
		t := f.GetTfd()
		if t == nil || t.GetVsec() != 0 || t.GetVnsec() != 0 || t.GetIsec() == 0 && t.GetInsec() == 0 {
			continue
		}
		t.Vsec, t.Vnsec = proto.Uint64(t.GetIsec()), proto.Uint64(t.GetInsec())
		changed = true
	}
	if !changed {
		return nil
	}
	return files.write()
}
