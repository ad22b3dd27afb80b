package rbd

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"kvol/internal/block"
)

// hosts says what the hosts of the cluster may do with a volume.
type hosts string

const (
	hostsNone     hosts = ""
	hostsLent     hosts = "lent"
	hostsWithheld hosts = "withheld" // our lock keeps them from writing
)

// registerImage has an item of metadata for each volume that hosts may use or
// that is kept from them. One command reads them all, so that it costs little to
// know what other processes of the zone lent.
const registerImage = "hosts-of-kvol"

// registerAge is for how long what the register said is believed.
const registerAge = 2 * time.Second

// register is what the register said last. Readers wait for the one who reads.
type register struct {
	mu    sync.Mutex // guards below, and is held while the register is read
	at    time.Time
	err   error
	state map[string]hosts
}

func (d *Driver) registerSpec() string { return d.Pool() + "/" + registerImage }

// hostsOf says what hosts may do with a volume; it may be registerAge old.
func (d *Driver) hostsOf(ctx context.Context, id block.VolumeID) (hosts, error) {
	if d.o.Hosts == nil {
		return hostsNone, nil
	}
	r := &d.register
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && d.o.Now().Sub(r.at).Abs() < registerAge {
		return r.state[string(id)], r.err
	}
	var state map[string]hosts
	out, err := d.run(ctx, d.rbd("image-meta", "list", d.registerSpec(), "--format", "json"))
	switch {
	case block.Is(err, block.NotFound):
		err = nil // nothing was ever lent
	case err == nil && len(out) > 0: // it prints nothing where there are no items
		err = decode(out, &state)
	}
	if ctx.Err() == nil {
		r.at, r.err, r.state = d.o.Now(), err, state
	}
	return state[string(id)], err
}

// enter writes down what hosts may do with a volume.
func (d *Driver) enter(ctx context.Context, id block.VolumeID, state hosts) error {
	d.register.mu.Lock()
	defer d.register.mu.Unlock()
	err := d.set(ctx, id, state)
	if errors.Is(err, syscall.ENOENT) && state != hostsNone {
		_, err = d.run(ctx, d.rbd("create", "--size", "0", d.registerSpec()))
		if err == nil || errors.Is(err, syscall.EEXIST) {
			err = d.set(ctx, id, state)
		}
	}
	if errors.Is(err, syscall.ENOENT) && state == hostsNone {
		err = nil // there is no such item
	}
	d.register.at = time.Time{}
	return err
}

func (d *Driver) set(ctx context.Context, id block.VolumeID, state hosts) error {
	c := d.rbd("image-meta", "set", d.registerSpec(), string(id), string(state))
	if state == hostsNone {
		c = d.rbd("image-meta", "remove", d.registerSpec(), string(id))
	}
	_, err := d.run(ctx, c)
	return err
}
