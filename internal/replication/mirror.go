package replication

import (
	"context"
	"errors"
	"net"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// The bytes of a step may come by the mirroring of the stores' clusters. All else
// is as with the stream: the step is pending at the target, both ends compute the
// root, and the point is committed under the epoch that was offered. The copy that
// the mirroring keeps is read and nothing else: no replica stands on it, and none
// becomes a volume by its promotion.

// mirrorAgain is for how long points go by the stream after the mirroring did not
// bring one.
const mirrorAgain = 10 * time.Minute

// The bounds of waiting between two looks at a copy.
const (
	firstLook = 100 * time.Millisecond
	maxLook   = time.Second
)

// errNotMirrored: the target's copy did not get what it should have got.
var errNotMirrored = errors.New("the storage cluster's mirroring did not bring a point")

// byMirror is a Target to which no runs go.
type byMirror struct {
	Target
	moment uint64
}

// Write implements Target.
func (byMirror) Write(context.Context, Run) error { return nil }

// Commit implements Target.
func (m byMirror) Commit(ctx context.Context, c Commit) (block.Point, error) {
	c.Mirror = m.moment
	p, err := m.Target.Commit(ctx, c)
	if err == nil && p.ID == "" {
		err = errNotMirrored
	}
	return p, err
}

// way is the Target of a step: the peer, or what has its bytes mirrored. The
// link says first that the volume is mirrored, so that somebody ends it one day.
func (v *visit) way(ctx context.Context, s block.Step) (Target, error) {
	m, ok := driver.As[driver.Mirrorer](v.store.driver)
	if !ok || !v.mirrors || v.policy.Transport != block.TransportMirror || s.Base.ID != "" && s.Base.ID == v.content ||
		v.sender.cfg.Now().Before(v.track.streams) {
		return v.peer, nil
	}
	l := v.link
	if l.Mirrored = true; !v.link.Mirrored {
		if err := v.save(ctx, l, func(*catalog.Tx) error { return nil }); err != nil {
			return nil, err
		}
	}
	moment, err := m.Mirror(ctx, v.volume.ID)
	if err == nil {
		return byMirror{v.peer, moment}, nil
	}
	if ctx.Err() != nil {
		return nil, err
	}
	v.stream(err)
	return v.peer, nil
}

// stream has the volume's points go by the stream for a while.
func (v *visit) stream(why error) {
	v.track.streams = v.sender.cfg.Now().Add(mirrorAgain)
	v.sender.cfg.Log.Warn("a volume that its cluster should mirror is sent by the stream", "volume", v.volume.ID,
		"peer", v.policy.Destination, "err", why)
}

// send takes a step, by the stream if not by the mirroring.
func (v *visit) send(ctx context.Context, src Source, s block.Step, sum Sum) (block.Point, Sum, error) {
	dst, err := v.way(ctx, s)
	if err != nil {
		return block.Point{}, sum, err
	}
	v.transport = block.TransportStream
	if _, ok := dst.(byMirror); ok {
		v.transport = block.TransportMirror
	}
	p, got, err := Send(ctx, src, dst, s, sum, v.entry)
	if v.transport == block.TransportMirror && block.Is(err, block.Corrupt) {
		v.stream(err) // next time: the target has gone back to the base
	}
	if !errors.Is(err, errNotMirrored) {
		return p, got, err
	}
	v.stream(err)
	v.transport, v.step.bytes = block.TransportStream, 0
	return Send(ctx, src, v.peer, s, sum, v.entry)
}

// unmirror ends the mirroring of a volume which no policy wants mirrored any more.
func (v *visit) unmirror(ctx context.Context) error {
	if !v.link.Mirrored || v.gone || v.policy.Transport == block.TransportMirror {
		return nil
	}
	var links []catalog.Link
	err := v.sender.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		links, err = tx.LinksOf(v.volume.ID)
		return err
	})
	if err != nil {
		return err
	}
	others := false
	for _, l := range links {
		others = others || l.Mirrored && l.Protection != v.link.Protection
	}
	if m, ok := driver.As[driver.Mirrorer](v.store.driver); ok && !others {
		if err := m.Unmirror(ctx, v.volume.ID); err != nil {
			return err
		}
	}
	l := v.link
	l.Mirrored = false
	return v.save(ctx, l, func(*catalog.Tx) error { return nil })
}

// canMirror reports whether the replica's store may have copies that a cluster
// keeps.
func (i *inbound) canMirror(rep block.Replica, found bool) bool {
	name := i.protection.Backup.Name
	if found {
		name = rep.Backend
	}
	d, err := i.receiver.cfg.Backends.Of(name)
	if err != nil {
		return false
	}
	_, ok := driver.As[driver.Mirrorer](d)
	return ok
}

// bring takes the step's bytes from the copy that the mirroring keeps, as soon as
// it has them. It reports false where the copy does not come on, is none, or can't be
// read; what it wrote then is taken back when the step begins again.
func (i *inbound) bring(ctx context.Context, moment uint64) (done bool, err error) {
	m, ok := driver.As[driver.Mirrorer](i.driver)
	if !ok {
		return false, nil
	}
	copied := store{driver: i.driver, volume: i.key.volume}
	if err = i.awaitCopy(ctx, m, moment); err == nil {
		var target driver.Reader
		if target, err = i.driver.OpenSnapshot(ctx, copied.ref(i.step.Target)); err == nil {
			err = i.copyStep(ctx, copied, target)
			if closed := target.Close(); closed != nil && err == nil {
				err = unreadable{closed}
			}
			if unread := (unreadable{}); err == nil || !errors.As(err, &unread) {
				return err == nil, err
			}
			if own := i.settle(ctx); own != nil { // what was begun is out before the step begins again
				return false, errors.Join(err, own)
			}
		}
	}
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return false, err
	}
	i.receiver.cfg.Log.Warn("the copy that the storage cluster keeps can't be used for a point, which goes by the stream",
		"volume", i.key.volume, "peer", i.key.zone, "err", err)
	return false, nil
}

// unreadable is a failure of the copy, for which the stream makes up.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }

// copyStep writes what differs between the base and the target of the step, as the
// copy has them.
func (i *inbound) copyStep(ctx context.Context, copied store, target driver.Reader) error {
	if target.Size() != i.step.Target.Size {
		return unreadable{block.Errorf(block.Conflict, "the copy has point %s with %d bytes, not %d", i.step.Target.ID,
			target.Size(), i.step.Target.Size)}
	}
	from, whole := i.offset, i.step.Base.ID == ""
	all := joined(driver.Diff(ctx, i.driver, copied.ref(i.step.Base), copied.ref(i.step.Target)))
	for e, err := range all {
		if err != nil {
			return unreadable{err}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.End() <= from || e.Zero && whole {
			continue
		}
		var own error // of the replica, not of the copy
		if e.Zero {
			run := Run{Off: e.Off, Len: e.Len}
			own = i.Write(ctx, run.after(from))
		} else if err := sendRange(target, e.Off, e.Len, from, func(r Run) error {
			if r.Data != nil || !whole {
				own = i.Write(ctx, r)
			}
			return own
		}); err != nil && own == nil {
			return unreadable{err}
		}
		if own != nil {
			return own
		}
	}
	return nil
}

// awaitCopy waits until the copy has a moment, as long as it comes on.
func (i *inbound) awaitCopy(ctx context.Context, m driver.Mirrorer, moment uint64) error {
	now := i.receiver.cfg.Now
	far, moved := "", now()
	for wait := firstLook; ; wait = min(2*wait, maxLook) {
		state, err := m.Mirrored(ctx, i.key.volume, moment)
		if err == nil && state.Whole {
			return nil
		}
		if err != nil && !block.Is(err, block.NotFound) && !block.Is(err, block.Unavailable) {
			return err
		}
		if err == nil && state.Far != far {
			far, moved = state.Far, now()
		}
		if now().Sub(moved) > i.receiver.cfg.Patience {
			return errors.Join(block.Errorf(block.Unavailable, "volume %s was not mirrored up to point %s in time", i.key.volume,
				i.step.Target.ID), err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-i.left:
			timer.Stop()
			return net.ErrClosed
		case <-timer.C:
		}
	}
}
