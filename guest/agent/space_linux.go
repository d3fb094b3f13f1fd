package agent

import (
	"syscall"

	"github.com/faas-platform/faas/guest"
	"github.com/faas-platform/faas/guest/internal/wire"
)

// space says how full the file system of a path is.
func space(path string, args wire.FileArgs) (guest.Space, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return guest.Space{}, fileError("path", args.Path, err)
	}
	return guest.Space{
		BlockSize: int64(st.Bsize), Blocks: st.Blocks, Free: st.Bfree, Available: st.Bavail,
		Files: st.Files, FilesFree: st.Ffree, LongestName: int64(st.Namelen),
	}, nil
}
