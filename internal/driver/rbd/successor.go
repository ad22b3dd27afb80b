package rbd

import (
	"context"

	"kvol/internal/block"
)

// succeed cuts off who had an image open for writing before this process came, when
// it opens the image first: a process of the zone that was stopped may go on when it
// is continued, and the client processes that it has with it. Images that hosts use
// have clients that stay, from which nothing tells those of the process before: nobody
// is cut off, though that one may have had the volume exported beside and may write on
// by its client. There, the end of its lease alone is what stops it.
func (d *Driver) succeed(ctx context.Context, id block.VolumeID) error {
	if !d.o.Several {
		return nil
	}
	v := d.volume(id)
	v.commands.Lock()
	defer v.commands.Unlock()
	d.mu.Lock()
	done := v.succeeded
	d.mu.Unlock()
	if done {
		return nil
	}
	state, err := d.hostsOf(ctx, id)
	if err != nil || state != hostsNone {
		return err
	}
	if err := d.alone(ctx, v, func() error { return d.cutAll(ctx, id) }); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.succeeded = true
	return nil
}

// cutAll cuts off all clients of an image, and breaks their locks. An rbd-mirror
// keeps its own: it gives it up when it is asked to.
func (d *Driver) cutAll(ctx context.Context, id block.VolumeID) error {
	who, lockers, err := d.clients(ctx, id)
	if err != nil {
		return err
	}
	if err := d.Cut(ctx, id, who); err != nil {
		return err
	}
	for _, l := range lockers {
		if l.mirror {
			continue
		}
		if err := d.dropLock(ctx, id, l); err != nil {
			return err
		}
	}
	return nil
}
