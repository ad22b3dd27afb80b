package drivertest

import (
	"bytes"

	"kvol/internal/driver"
)

var generalCases = []testCase{
	{"Diff by reading", func(r *room) {
		id, dev := r.opened(40)
		now := make([]byte, 40*kib4)
		r.write(dev, pattern(1, 5*kib4), 3*kib4+1)
		copy(now[3*kib4+1:], pattern(1, 5*kib4))
		a, dataA := r.snapshot(id), bytes.Clone(now)
		r.ok(dev.Zero(4*kib4, kib4))
		clear(now[4*kib4 : 5*kib4])
		r.ok(r.d.ExtendVolume(r.ctx, id, 44*kib4))
		now = append(now, make([]byte, 4*kib4)...)
		r.write(dev, []byte{1}, 43*kib4)
		now[43*kib4] = 1
		b := r.snapshot(id)
		r.diffIsTrue(driver.Diff(r.ctx, plain{r.d}, a, b), dataA, now)
		r.diffIsTrue(driver.Diff(r.ctx, plain{r.d}, driver.SnapshotRef{}, b), nil, now)
		r.diffIsTrue(driver.Diff(r.ctx, r.d, a, b), dataA, now)
	}},
	{"Copy", func(r *room) {
		id, dev := r.opened(600)
		data := make([]byte, 600*kib4)
		copy(data[7*kib4:], pattern(1, 3*kib4+9))
		copy(data[599*kib4:], pattern(2, kib4))
		r.write(dev, data[7*kib4:11*kib4], 7*kib4)
		r.write(dev, data[599*kib4:], 599*kib4)
		_, target := r.opened(600)
		last := int64(0)
		progress := func(done int64) {
			if done <= last {
				r.Errorf("progress went from %d to %d", last, done)
			}
			last = done
		}
		r.ok(driver.Copy(r.ctx, target, r.openSnapshot(r.snapshot(id)), progress))
		if last != 600*kib4 {
			r.Errorf("progress ended at %d", last)
		}
		r.holds(target, data)
	}},
}

// plain hides what a driver can do beyond the contract.
type plain struct{ driver.Driver }
