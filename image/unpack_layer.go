package image

import (
	"context"
	"io"
)

// UnpackLayer writes one layer, a plain tar in the form of images, as an
// overlay layer into dir, which it makes: whiteouts become 0/0 character
// devices, and a name never leads out of dir. Owners are kept, with shift added
// to both ids, so the caller must be root. dir is of no use after an error.
func UnpackLayer(ctx context.Context, dir string, r io.Reader, shift int) error {
	_, err := extract(ctx, dir, r, ownership{uid: shift, gid: shift, keep: true}, Limits{}.withDefaults())
	return err
}
