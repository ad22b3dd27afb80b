package control

import (
	"context"
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// devices keeps at most one open device for each volume, since drivers open
// one once at a time, and lends it to the exports and jobs that need it.
type devices struct {
	backends *driver.Set

	mu   sync.Mutex // guards open
	open map[block.VolumeID]*lent
}

// lent is an open device and how many hold it.
type lent struct {
	settled chan struct{} // closed once device or err is set
	closed  chan struct{} // closed once the device is closed
	device  driver.Device
	err     error
	holders int // guarded by devices.mu; 0 while it is being closed
}

func newDevices(backends *driver.Set) *devices {
	return &devices{backends: backends, open: map[block.VolumeID]*lent{}}
}

// borrow returns a volume's device, opened if nobody else holds it, and the
// function that gives it back, to be called once. The device must not be used
// after that, and its Close never.
func (d *devices) borrow(ctx context.Context, backend string, id block.VolumeID) (driver.Device, func() error, error) {
	for {
		d.mu.Lock()
		l, ok := d.open[id]
		switch {
		case !ok:
			l = &lent{settled: make(chan struct{}), closed: make(chan struct{}), holders: 1}
			d.open[id] = l
			d.mu.Unlock()
			return d.start(ctx, backend, id, l)
		case l.holders == 0: // being closed
			d.mu.Unlock()
			if err := wait(ctx, l.closed); err != nil {
				return nil, nil, err
			}
		default:
			l.holders++
			d.mu.Unlock()
			return d.join(ctx, id, l)
		}
	}
}

// start opens the device for its first holder.
func (d *devices) start(ctx context.Context, backend string, id block.VolumeID,
	l *lent) (driver.Device, func() error, error) {
	store, err := d.backends.Of(backend)
	if err == nil {
		l.device, err = store.OpenVolume(context.WithoutCancel(ctx), id) // others wait for it too
	}
	l.err = err
	close(l.settled)
	return d.result(id, l)
}

func (d *devices) join(ctx context.Context, id block.VolumeID, l *lent) (driver.Device, func() error, error) {
	if err := wait(ctx, l.settled); err != nil {
		_ = d.giveBack(id, l) // the device is another holder's to close, or was never opened
		return nil, nil, err
	}
	return d.result(id, l)
}

func (d *devices) result(id block.VolumeID, l *lent) (driver.Device, func() error, error) {
	if l.err != nil {
		_ = d.giveBack(id, l) // nothing is open
		return nil, nil, l.err
	}
	return l.device, sync.OnceValue(func() error { return d.giveBack(id, l) }), nil
}

// giveBack ends one holder's use; the last one closes the device.
func (d *devices) giveBack(id block.VolumeID, l *lent) error {
	d.mu.Lock()
	l.holders--
	last := l.holders == 0
	d.mu.Unlock()
	if !last {
		return nil
	}
	<-l.settled // a holder that gave up waiting may be the last while the opener is at it
	var err error
	if l.device != nil {
		err = l.device.Close()
	}
	d.mu.Lock()
	delete(d.open, id)
	d.mu.Unlock()
	close(l.closed)
	return err
}

// drained waits until nobody holds a volume's device.
func (d *devices) drained(ctx context.Context, id block.VolumeID) error {
	d.mu.Lock()
	l, ok := d.open[id]
	d.mu.Unlock()
	if !ok {
		return nil
	}
	return wait(ctx, l.closed)
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
