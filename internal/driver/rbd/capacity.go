package rbd

import (
	"context"
	"encoding/json"
	"errors"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// known is a capacity and when it was asked for.
type known struct {
	driver.Capacity
	at time.Time
}

// capacityAge is for how long a pool's capacity is not asked for again: the
// ceph command takes long to start.
const capacityAge = 10 * time.Second

// Capacity implements driver.Driver: what the pool has and may still take, after
// replication, as the cluster's monitors know it. It may be some seconds old.
func (d *Driver) Capacity(ctx context.Context) (driver.Capacity, error) {
	d.mu.Lock()
	last := d.capacity
	d.mu.Unlock()
	if !last.at.IsZero() && d.o.Now().Sub(last.at).Abs() < capacityAge {
		return last.Capacity, nil
	}
	c, err := d.askCapacity(ctx)
	if err != nil {
		return driver.Capacity{}, err
	}
	if d.o.Hosts != nil {
		d.refreshMonitors(ctx)
		d.relock(ctx) // the cluster may not have answered before
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = known{c, d.o.Now()}
	return c, nil
}

func (d *Driver) askCapacity(ctx context.Context) (driver.Capacity, error) {
	out, err := d.run(ctx, command{"ceph", []string{"--conf", d.o.Conf, "--id", d.o.User,
		"--connect-timeout", seconds(d.o.Timeout), "df", "detail", "--format", "json"}})
	if err != nil {
		return driver.Capacity{}, err
	}
	return poolCapacity(out, d.o.Pool)
}

// poolCapacity finds a pool in what `ceph df detail` prints. What may be stored in it
// is bounded by its quota too, if it has one.
func poolCapacity(text []byte, pool string) (driver.Capacity, error) {
	var df struct {
		Pools []struct {
			Name  string `json:"name"`
			Stats struct {
				Stored   int64 `json:"stored"`
				MaxAvail int64 `json:"max_avail"`
				Quota    int64 `json:"quota_bytes"` // 0 for none
			} `json:"stats"`
		} `json:"pools"`
	}
	if err := json.Unmarshal(text, &df); err != nil {
		return driver.Capacity{}, block.Wrap(block.Internal, err, "The storage cluster's answer could not be read.")
	}
	for _, p := range df.Pools {
		if p.Name == pool {
			free := p.Stats.MaxAvail
			if p.Stats.Quota > 0 {
				free = min(free, max(0, p.Stats.Quota-p.Stats.Stored))
			}
			return driver.Capacity{Total: p.Stats.Stored + free, Free: free}, nil
		}
	}
	return driver.Capacity{}, block.Errorf(block.Unavailable,
		"The storage cluster has no figures of pool %s yet; its manager daemon may not run.", pool)
}

// unlessFull gives a change's error its reason where the cluster has no room: it
// answers nothing then until there is some, and the change's time runs out.
func (d *Driver) unlessFull(ctx context.Context, err error) error {
	if !errors.Is(err, syscall.ETIMEDOUT) {
		return err
	}
	if room, looked := d.askCapacity(ctx); looked == nil && room.Free == 0 {
		return block.Wrap(block.NoSpace, err, "The storage cluster is full: it takes nothing more until room is made.")
	}
	return err
}

// keepTrash sees that the pool's trash has its list. Without it a full cluster can't
// remove any image: each goes by the trash, and a list would be one more object.
func (d *Driver) keepTrash(ctx context.Context) error {
	c := d.rbd("--pool", d.o.Pool, "create", "rbd_trash") // rbd_types.h: RBD_TRASH
	if c.program = "rados"; d.o.Namespace != "" {
		c.args = append(c.args, "--namespace", d.o.Namespace)
	}
	if _, err := d.run(ctx, c); !errors.Is(err, syscall.EEXIST) {
		return err
	}
	return nil
}

// discard moves an image that has no snapshots to the trash. A full cluster doesn't let
// images be moved, but removed: that takes as long as the image is large then.
func (d *Driver) discard(ctx context.Context, id block.VolumeID) error {
	_, err := d.run(ctx, d.rbd("trash", "mv", d.spec(id)))
	if block.Is(d.unlessFull(ctx, err), block.NoSpace) {
		_, err = d.runFor(ctx, d.rbd("rm", "--no-progress", d.spec(id)), longest)
	}
	return err
}
