package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

const (
	moveRest   = 16 << 20 // bytes of which the copying lets hosts wait at most
	moveRounds = 64       // times that what was written meanwhile is copied while hosts keep a pace
	moveTries  = 100      // to find nobody but the exports at the volume
	movePause  = 50 * time.Millisecond
)

// movePoints name the two moments that a move copies by turns. They are made of
// the volume's id, so that a process that takes the move up finds them.
func movePoints(id block.VolumeID) [2]block.PointID {
	var names [2]block.PointID
	for i := range names {
		sum := sha256.Sum256(fmt.Appendf(nil, "move %d %s", i, id))
		names[i] = block.PointID(fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
	}
	return names
}

// mover copies a volume to another store under its id.
type mover struct {
	s        *Service
	t        *job.Task
	volume   block.Volume
	id       block.VolumeID
	from, to driver.Driver
	device   driver.Device // of the copy
	last     block.PointID // the moment that the copy has
	next     block.PointID
	pace     *pace // that hosts keep; nil for none yet
	blank    bool  // the copy has nothing yet that could be as it should be
}

// move takes a volume to another backend. commit is called in the transaction
// that makes it so, in which the volume is as the move wants it. On one store
// that is all; else the bytes are copied while hosts write, and compared; the
// rest, moveRest bytes at most, is copied while they wait, and then they go on
// with the copy. An attempt
// that was interrupted is repeated: what is there already is compared only.
func (s *Service) move(ctx context.Context, t *job.Task, v block.Volume, to string,
	commit func(*catalog.Tx, block.Volume) error) error {
	if err := s.beginMove(ctx, t, v.ID, to); err != nil {
		return err
	}
	ended := func() error {
		return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
			v, err := s.mayEndMove(tx, t, v.ID)
			if err != nil {
				return err
			}
			return commit(tx, v)
		})
	}
	if s.backends.Shared(v.Backend, to) {
		return ended()
	}
	m := &mover{s: s, t: t, volume: v, id: v.ID}
	var err error
	if m.from, err = s.backends.Of(v.Backend); err != nil {
		return err
	}
	if m.to, err = s.backends.Of(to); err != nil {
		return err
	}
	return m.run(ctx, ended)
}

// mayEndMove returns a volume as it is when its move ends, unless it has to stay.
func (s *Service) mayEndMove(tx *catalog.Tx, t *job.Task, id block.VolumeID) (block.Volume, error) {
	v, err := stillMigrating(tx, id)
	if err != nil {
		return v, err
	}
	if bound, err := s.bound(tx, v); bound || err != nil {
		return v, first(err, errBound)
	}
	return v, alone(tx, v.ID, t.Job.ID)
}

func (m *mover) run(ctx context.Context, commit func() error) (err error) {
	points := movePoints(m.id)
	m.last, m.next = points[0], points[1]
	for _, name := range points { // of an attempt before
		if err := ignoring(block.NotFound, m.from.DeleteSnapshot(ctx, m.ref(name))); err != nil {
			return err
		}
	}
	if err := m.from.CreateSnapshot(ctx, m.ref(m.last)); err != nil {
		return err
	}
	if err := m.open(ctx); err != nil {
		return err
	}
	defer func() {
		if m.device != nil {
			err = errors.Join(err, m.device.Close())
		}
	}()
	if err := m.copyAll(ctx); err != nil {
		return err
	}
	return m.follow(ctx, commit)
}

// errOutrun is why a volume is not moved that is changed faster than it is
// copied.
var errOutrun = block.Errorf(block.Unavailable, "The volume changes faster than it can be copied.")

// follow copies what hosts write until what is left fits into the pause that they
// are to notice, and switches over. Rounds go on by themselves while each has
// less than half of the one before; from then on hosts keep a pace.
func (m *mover) follow(ctx context.Context, commit func() error) error {
	for before := int64(math.MaxInt64); ; {
		n, err := m.catchUp(ctx)
		if err != nil {
			return err
		}
		if n <= moveRest || n > before/2 {
			break
		}
		before = n
	}
	p, free := m.s.exports.pace(m.id)
	defer free()
	m.pace = p
	for rounds, tries := 0, 0; rounds < moveRounds; {
		p.round()
		n, err := m.catchUp(ctx)
		if err != nil {
			return err
		}
		if n > moveRest {
			rounds++
			continue
		}
		done, err := m.switchOver(ctx, commit)
		switch {
		case errors.Is(err, errOutrun):
			rounds++
			continue
		case done || err != nil:
			return err
		}
		tries++
		if err := pause(ctx, movePause); err != nil {
			return err
		}
		if tries == moveTries {
			return job.Snooze(snoozeTime, nil)
		}
	}
	return job.GiveUp(errOutrun)
}

// pause waits a while.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *mover) ref(name block.PointID) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: m.id, Name: name}
}

// open makes the copy, or finds that of an attempt before, and opens it.
func (m *mover) open(ctx context.Context) error {
	source, err := m.from.OpenSnapshot(ctx, m.ref(m.last))
	if err != nil {
		return err
	}
	size := source.Size()
	if err := source.Close(); err != nil {
		return err
	}
	err = m.to.CreateVolume(ctx, m.id, size)
	if block.Is(err, block.Conflict) { // the volume grew since
		err = m.to.ExtendVolume(ctx, m.id, size)
	}
	if err == nil {
		m.device, err = m.to.OpenVolume(ctx, m.id)
	}
	return err
}

// copyAll makes the copy what the volume was at the last moment, and compares
// all of it once more.
func (m *mover) copyAll(ctx context.Context) (err error) {
	source, err := m.from.OpenSnapshot(ctx, m.ref(m.last))
	if err != nil {
		return err
	}
	defer closing(&err, source.Close)
	whole := func(yield func(driver.Extent, error) bool) {
		yield(driver.Extent{Len: source.Size()}, nil)
	}
	if err := m.each(ctx, "copying", source, whole, m.write); err != nil {
		return err
	}
	if err := m.device.Flush(); err != nil {
		return err
	}
	return m.each(ctx, "comparing", source, whole, m.differs)
}

// cut names the present moment and returns how many bytes may have changed since
// the last one. A moment that was cut already stays, and is caught up with first.
func (m *mover) cut(ctx context.Context) (rest int64, err error) {
	if err := m.from.CreateSnapshot(ctx, m.ref(m.next)); err != nil {
		return 0, err
	}
	for e, err := range driver.Diff(ctx, m.from, m.ref(m.last), m.ref(m.next)) {
		if err != nil {
			return 0, err
		}
		rest += e.Len
	}
	return rest, nil
}

// catchUp copies what changed since the last moment, compares it, and returns
// how many bytes that was.
func (m *mover) catchUp(ctx context.Context) (int64, error) {
	n, err := m.cut(ctx)
	if err != nil {
		return 0, err
	}
	return n, m.copyCut(ctx)
}

// copyCut makes the copy what the volume was at the moment that was cut.
func (m *mover) copyCut(ctx context.Context) (err error) {
	source, err := m.from.OpenSnapshot(ctx, m.ref(m.next))
	if err != nil {
		return err
	}
	defer closing(&err, source.Close)
	if source.Size() > m.device.Size() {
		if err := m.to.ExtendVolume(ctx, m.id, source.Size()); err != nil {
			return err
		}
	}
	changes := driver.Diff(ctx, m.from, m.ref(m.last), m.ref(m.next))
	if err := m.each(ctx, "catching up", source, changes, m.write); err != nil {
		return err
	}
	if err := m.device.Flush(); err != nil {
		return err
	}
	compared := m.pace
	m.pace = nil // what is only compared lets nobody write
	err = m.each(ctx, "comparing", source, changes, m.differs)
	m.pace = compared
	if err != nil {
		return err
	}
	if err := m.from.DeleteSnapshot(ctx, m.ref(m.last)); err != nil {
		return err
	}
	m.last, m.next = m.next, m.last
	return nil
}

// each reads ranges of the volume and of its copy and hands over what the
// volume has where the two differ. What both know to be zeros is not read.
func (m *mover) each(ctx context.Context, step string, source driver.Reader, ranges iter.Seq2[driver.Extent, error],
	different func(off int64, want []byte) error) error {
	have, want := make([]byte, streamChunk), make([]byte, streamChunk)
	looked := int64(0)
	for e, err := range ranges {
		if err != nil {
			return err
		}
		for off, n := e.Off, int64(0); off < e.End(); off += n {
			n = min(e.End()-off, streamChunk)
			if m.blank || !zeroAt(source, off, n) || !zeroAt(m.device, off, n) {
				if err := m.readBoth(source, want[:n], have[:n], off); err != nil {
					return err
				}
				if m.blank || !bytes.Equal(have[:n], want[:n]) {
					if err := different(off, want[:n]); err != nil {
						return err
					}
				}
			}
			m.pace.copied(n)
			m.t.Progress(step, off+n, source.Size())
			if err := ctx.Err(); err != nil {
				return err
			}
			if off-looked < checkEvery {
				continue
			}
			looked = off
			if _, err := m.s.migrating(ctx, m.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// readBoth reads the volume and, if that has anything, its copy.
func (m *mover) readBoth(source io.ReaderAt, want, have []byte, off int64) error {
	if _, err := source.ReadAt(want, off); err != nil || m.blank {
		return err
	}
	_, err := m.device.ReadAt(have, off)
	return err
}

// zeroAt reports whether a range is known to read as zeros.
func zeroAt(r any, off, length int64) bool {
	extents, ok := r.(driver.ExtentReader)
	if !ok {
		return false
	}
	for e, err := range extents.Extents(off, length) {
		if err != nil || !e.Zero {
			return false
		}
	}
	return true
}

// write writes to the copy; what reads as zeros gives its space back.
func (m *mover) write(off int64, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), rangeSize)
		var err error
		if driver.IsZero(p[:n]) {
			err = m.device.Zero(off, int64(n))
		} else {
			_, err = m.device.WriteAt(p[:n], off)
		}
		if err != nil {
			return err
		}
		off, p = off+int64(n), p[n:]
	}
	return nil
}

func (m *mover) differs(off int64, _ []byte) error {
	return block.Errorf(block.Corrupt, "the copy of volume %s differs after byte %d", m.id, off)
}

// switchOver lets the exports of the volume wait, copies the rest, commits, and
// lets them go on with the copy. It is not done while somebody else has the
// volume open, nor, with errOutrun, if more than moveRest bytes are left.
func (m *mover) switchOver(ctx context.Context, commit func() error) (done bool, err error) {
	paused := m.s.exports.pause(m.id)
	defer paused.resume()
	return m.s.devices.exchange(m.id, paused.users(), func(open bool) (driver.Device, error) {
		rest, err := m.cut(ctx)
		if err == nil && rest > moveRest {
			err = errOutrun // hosts go on, and another round follows
		}
		if err == nil {
			err = m.copyCut(ctx)
		}
		if err != nil {
			return nil, err
		}
		clear, err := m.s.clear(ctx, m.volume, m.device) // as hosts see it
		if err != nil {
			return nil, err
		}
		if err := commit(); err != nil || !open {
			return nil, err
		}
		to := m.device
		m.device = nil // it belongs to its users now
		paused.use(clear)
		return to, nil
	})
}
