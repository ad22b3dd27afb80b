package rbd

import (
	"context"

	"kvol/internal/block"
)

// succeed cuts off who had an image open for writing before this process came, when
// it opens the image first: a process of the zone that was stopped may go on when it
// is continued, and the client processes that it has with it. Images that hosts use
// have clients that stay; of those the hosts are told apart by nothing, and nothing
// is written to them from here but by commands.
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
	who, lockers, err := d.clients(ctx, id)
	if err != nil {
		return err
	}
	if err := d.Cut(ctx, id, who); err != nil {
		return err
	}
	for _, l := range lockers {
		if err := d.dropLock(ctx, id, l); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v.succeeded = true
	return nil
}
