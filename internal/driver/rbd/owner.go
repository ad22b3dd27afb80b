package rbd

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"kvol/internal/block"
)

// ownerImage has an item of metadata that says whose store the namespace is. Two stores
// in one namespace would take each other's images for left over, and each other's
// unfinished work for their own.
const ownerImage = "owner-of-kvol"

const ownerItem = "store"

// own makes the namespace this store's, unless it is another one's already.
func (d *Driver) own(ctx context.Context) error {
	spec := d.Pool() + "/" + ownerImage
	owner, err := d.owner(ctx, spec)
	if err == nil && owner == "" {
		if owner, err = d.o.Owner, d.claim(ctx, spec); err == nil {
			owner, err = d.owner(ctx, spec) // of two that claim it at once one has it
		}
	}
	if err == nil && owner != d.o.Owner {
		return block.Errorf(block.Conflict, "The images in %s belong to store %s, and this is %s. If that is no more, or "+
			"has another name now, remove image %s.", d.Pool(), owner, d.o.Owner, spec)
	}
	return err
}

// owner is who owns the namespace; "" for nobody yet.
func (d *Driver) owner(ctx context.Context, spec string) (string, error) {
	out, err := d.run(ctx, d.rbd("image-meta", "get", spec, ownerItem))
	if errors.Is(err, syscall.ENOENT) {
		return "", nil
	}
	return strings.TrimSpace(string(out)), err
}

func (d *Driver) claim(ctx context.Context, spec string) error {
	if _, err := d.run(ctx, d.rbd("create", "--size", "0", spec)); err != nil && !errors.Is(err, syscall.EEXIST) {
		return err
	}
	_, err := d.run(ctx, d.rbd("image-meta", "set", spec, ownerItem, d.o.Owner))
	return err
}
