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
	holders int           // guarded by devices.mu; 0 while it is being closed
	gate    chan struct{} // guarded by devices.mu; not nil while another device is put in its place, closed then
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
		case l.gate != nil:
			gate := l.gate
			d.mu.Unlock()
			if err := wait(ctx, gate); err != nil {
				return nil, nil, err
			}
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

// giveBack ends one holder's use; the last one closes the device. While another
// device is put in its place it waits: which one is to be closed shows after that.
func (d *devices) giveBack(id block.VolumeID, l *lent) error {
	d.mu.Lock()
	for l.gate != nil { // it counts as a user of the device that is put in its place
		gate := l.gate
		d.mu.Unlock()
		<-gate
		d.mu.Lock()
	}
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

// exchange lets fn put another device in the place of a volume's while nobody
// borrows it. users is how many hold it that wait for the exchange; if others
// do, done is false and fn is not called. open tells fn whether somebody holds
// it: only then the device that it returns is used, and the old one closed. If
// fn fails, the old one stays.
func (d *devices) exchange(id block.VolumeID, users int, fn func(open bool) (driver.Device, error)) (done bool,
	err error) {
	d.mu.Lock()
	l, open := d.open[id]
	switch {
	case !open && users == 0:
		l = &lent{settled: make(chan struct{}), closed: make(chan struct{})}
		d.open[id] = l // as if it were being closed
	case !open, l.gate != nil, l.holders != users, l.holders == 0:
		d.mu.Unlock()
		return false, nil
	default:
		l.gate = make(chan struct{})
	}
	d.mu.Unlock()
	device, err := fn(open)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !open {
		delete(d.open, id)
		close(l.closed)
		return err == nil, err
	}
	if err == nil {
		err = l.device.Close() // all that it has is copied
		l.device, done = device, true
	}
	close(l.gate)
	l.gate = nil
	return done, err
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
