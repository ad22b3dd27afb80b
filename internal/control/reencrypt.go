package control

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// What a retype to a type with another encryption ends with, and leaves the
// volume as it was.
var (
	errNeedsMigration = block.Errorf(block.Invalid, "Retype requires migration but is not allowed.")
	errNoHeaderRoom   = block.Errorf(block.Invalid, "The volume is in use up to its end, where a LUKS header takes room.")
	errNoContainer    = block.Errorf(block.Unsupported,
		"What lies on the volume is no LUKS container that can be read here.")
)

// swapPause is how long a store is left alone that could not swap a volume for its
// copy.
const swapPause = 5 * time.Second

// mayReencrypt refuses a type whose volumes are encrypted in another way where
// the zone can't read the volume's clear content, or not write that of the new
// one, and while a host has it open: Nova does not swap encrypted volumes either
// (nova/virt/libvirt/driver.py, swap_volume).
func mayReencrypt(tx *catalog.Tx, v block.Volume, t block.VolumeType) error {
	wanted, err := wantedEncryption(tx, &t)
	if err != nil {
		return err
	}
	if wanted != nil && t.ExtraSpecs["multiattach"] == isTrue {
		return invalidInput("Retype requested both encryption and multi-attach, which is not supported.")
	}
	if wanted.Same(v.Encryption) {
		return nil
	}
	if v.Status != block.VolumeAvailable {
		return invalidVolume("Volume %s must be available to get a type that encrypts in another way, but is %s.", v.ID,
			v.Status)
	}
	for _, e := range []*block.VolumeEncryption{v.Encryption, wanted} {
		if e == nil {
			continue
		}
		if err := checkEncryption(e); err != nil {
			return err
		}
		if !e.ByZone() && (!containers(e) || !usual(e)) {
			return invalidInput("Only hosts know volumes that are encrypted as volume %s is, or as those of type %s are.",
				v.ID, t.Name)
		}
	}
	return nil
}

// copyOf names the copy of a volume that is encrypted anew on its own store.
func copyOf(id block.VolumeID) block.VolumeID {
	sum := sha256.Sum256([]byte("encrypted anew " + id))
	return block.VolumeID(fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
}

// reencrypt copies the clear content of a volume that nobody has open to one that
// is encrypted as wanted says, with a new key, and puts that in the volume's
// place: on another store by the transaction that makes the volume lie there, on
// its own one by a clone under the volume's id. change is called in the
// transaction after which there is no way back, and makes of the volume what it is
// to become but for its encryption. Up to that the volume is what it was; the end
// of the move removes what is left over.
func (s *Service) reencrypt(ctx context.Context, t *job.Task, v block.Volume, to string,
	wanted *block.VolumeEncryption, change func(*catalog.Tx, *block.Volume) error) error {
	r, err := s.beginReencryption(ctx, t, v, to, wanted)
	if err != nil {
		return err
	}
	if err := s.cutOff(ctx, v.ID); err != nil {
		return err
	}
	m := &mover{s: s, t: t, volume: v, id: v.ID}
	if err := m.recode(ctx, r); err != nil {
		return err
	}
	return s.undisturbed(v.ID, func() error {
		err := s.catalog.Update(ctx, func(tx *catalog.Tx) error { return s.reencrypted(tx, t, r, change) })
		if err != nil || r.Copy == r.Volume {
			return err
		}
		return s.swap(ctx, r)
	})
}

// undisturbed calls fn while nobody can open a volume, and puts the job off while
// somebody who began before has it open.
func (s *Service) undisturbed(id block.VolumeID, fn func() error) error {
	called := false
	_, err := s.devices.exchange(id, 0, func(bool) (driver.Device, error) {
		called = true
		return nil, fn()
	})
	if err == nil && !called {
		err = job.Snooze(snoozeTime, nil)
	}
	return err
}

// beginReencryption notes it with its new key, or finds what an attempt before
// noted.
func (s *Service) beginReencryption(ctx context.Context, t *job.Task, v block.Volume, to string,
	wanted *block.VolumeEncryption) (r block.Reencryption, err error) {
	if err := s.beginMove(ctx, t, v.ID, to); err != nil {
		return r, err
	}
	if err := s.dropReencryption(ctx, v.ID, t.Job.ID); err != nil { // that the end of an earlier one left
		return r, err
	}
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if r, err = tx.Reencryption(v.ID); !block.Is(err, block.NotFound) {
			return err
		}
		if _, err := stillMigrating(tx, v.ID); err != nil {
			return err
		}
		r = block.Reencryption{Volume: v.ID, Job: t.Job.ID, Copy: v.ID, Backend: to, Phase: block.ReencryptionCopies}
		if s.backends.Shared(v.Backend, to) {
			r.Copy = copyOf(v.ID)
		}
		if r.Encryption = wanted; wanted != nil {
			bits := int64(0)
			if wanted.KeySize != nil {
				bits = *wanted.KeySize
			}
			if r.Encryption.Key, err = s.sealer.NewKey(tx, v.Project, v.User, algorithm(wanted), bits); err != nil {
				return err
			}
		}
		return tx.BeginReencryption(r)
	})
	return r, err
}

// reencrypted makes a volume one that is encrypted anew, and deletes its old key.
// Where the copy lies on the volume's own store, the volume is that from now on,
// and its own bytes are to follow.
func (s *Service) reencrypted(tx *catalog.Tx, t *job.Task, r block.Reencryption,
	change func(*catalog.Tx, *block.Volume) error) error {
	v, err := s.mayEndMove(tx, t, r.Volume)
	if err != nil {
		return err
	}
	if v.Status != block.VolumeRetyping {
		return errUnwanted
	}
	old := v.Encryption
	v.Encrypted, v.Encryption = r.Encryption != nil, r.Encryption
	if err := change(tx, &v); err != nil {
		return err
	}
	if r.Copy != r.Volume {
		err = first(tx.UpdateVolume(v), tx.SetReencryptionPhase(v.ID, block.ReencryptionSwaps))
	} else {
		err = endReencryption(tx, v)
	}
	if err != nil || old == nil {
		return err
	}
	return tx.DeleteSecret(old.Key)
}

// endReencryption writes a volume that is whole again.
func endReencryption(tx *catalog.Tx, v block.Volume) error {
	v.MigrationStatus = block.MigrationSuccess
	if err := first(tx.UpdateVolume(v), tx.SetReencryptionPhase(v.ID, block.ReencryptionDone)); err != nil {
		return err
	}
	_, err := tx.MoveVolume(v.ID, block.Done)
	return err
}

// swap ends what there is no way back from; its errors are waited for.
func (s *Service) swap(ctx context.Context, r block.Reencryption) error {
	err := s.takePlace(ctx, r)
	if err == nil {
		err = s.finish(ctx, r.Volume, []block.VolumeStatus{block.VolumeRetyping}, endReencryption)
	}
	if err == nil || errors.Is(err, errUnwanted) || ctx.Err() != nil {
		return err
	}
	return job.Snooze(swapPause, err)
}

// dropReencryption removes what one leaves: the copy that has an id of its own,
// and the new key unless it is the volume's. That of the job except stays.
func (s *Service) dropReencryption(ctx context.Context, id block.VolumeID, except block.JobID) error {
	var r block.Reencryption
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		r, err = tx.Reencryption(id)
		return err
	})
	if err != nil || r.Job == except {
		return ignoring(block.NotFound, err)
	}
	if r.Copy != r.Volume {
		store, err := s.backends.Of(r.Backend)
		if err != nil {
			return err
		}
		if err := s.removeBytes(ctx, store, r.Copy); err != nil {
			return err
		}
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.EndReencryption(id) })
}

// swapping reports whether a volume's copy is about to take its place.
func swapping(tx *catalog.Tx, id block.VolumeID) (r block.Reencryption, yes bool, err error) {
	r, err = tx.Reencryption(id)
	return r, err == nil && r.Phase == block.ReencryptionSwaps, ignoring(block.NotFound, err)
}

// notSwapped refuses what would let a volume's copy be lost that is its content
// already.
func notSwapped(tx *catalog.Tx, id block.VolumeID) error {
	_, yes, err := swapping(tx, id)
	if yes && err == nil {
		err = invalidVolume("Volume %s is encrypted anew, which can't be stopped any more; it ends by itself.", id)
	}
	return err
}

// takePlace makes the volume's bytes those of the copy. It may be repeated: the
// copy stays until the move ends.
func (s *Service) takePlace(ctx context.Context, r block.Reencryption) error {
	store, err := s.backends.Of(r.Backend)
	if err != nil {
		return err
	}
	point := driver.SnapshotRef{Volume: r.Copy, Name: movePoints(r.Volume)[0]}
	whole, err := store.OpenSnapshot(ctx, point)
	if err != nil {
		return err
	}
	size := whole.Size()
	if err := whole.Close(); err != nil {
		return err
	}
	if err := s.removeBytes(ctx, store, r.Volume); err != nil {
		return err
	}
	return store.CloneSnapshot(ctx, r.Volume, point, size)
}

// recode makes the copy, or finds that of an attempt before, and makes its clear
// content the volume's; all of it is compared once more.
func (m *mover) recode(ctx context.Context, r block.Reencryption) (err error) {
	if m.from, err = m.s.backends.Of(m.volume.Backend); err != nil {
		return err
	}
	if m.to, err = m.s.backends.Of(r.Backend); err != nil {
		return err
	}
	m.last = movePoints(m.id)[0]
	if err := m.from.CreateSnapshot(ctx, m.ref(m.last)); err != nil {
		return err
	}
	old, err := m.from.OpenSnapshot(ctx, m.ref(m.last))
	if err != nil {
		return err
	}
	defer closing(&err, old.Close)
	if err := m.to.CreateVolume(ctx, r.Copy, old.Size()); err != nil {
		return err
	}
	device, err := m.to.OpenVolume(ctx, r.Copy)
	if err != nil {
		return err
	}
	if err := errors.Join(m.recodeTo(ctx, r, old, device), device.Close()); err != nil || r.Copy == r.Volume {
		return err
	}
	return m.to.CreateSnapshot(ctx, driver.SnapshotRef{Volume: r.Copy, Name: m.last})
}

func (m *mover) recodeTo(ctx context.Context, r block.Reencryption, old driver.Reader, device driver.Device) error {
	source, err := m.s.readClear(ctx, m.volume, old)
	if err != nil {
		return err
	}
	if m.device, m.blank, err = m.s.writeClear(ctx, m.id, r.Encryption, device); err != nil {
		return err
	}
	if source, err = fit(source, m.device.Size()); err != nil {
		return err
	}
	whole := func(yield func(driver.Extent, error) bool) {
		yield(driver.Extent{Len: source.Size()}, nil)
	}
	if err := m.each(ctx, "encrypting", source, whole, m.write); err != nil {
		return err
	}
	m.blank = false
	if err := device.Flush(); err != nil {
		return err
	}
	return m.each(ctx, "comparing", source, whole, m.differs)
}

// fitted is a volume's clear content in the size that it is to have: what is
// beyond its end is zeros.
type fitted struct {
	driver.Reader
	size int64
}

// fit refuses to cut off what is no zeros.
func fit(r driver.Reader, size int64) (driver.Reader, error) {
	buf := make([]byte, streamChunk)
	for off := size; off < r.Size(); off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), r.Size()-off)]
		if _, err := r.ReadAt(buf, off); err != nil {
			return nil, err
		}
		if !driver.IsZero(buf) {
			return nil, errNoHeaderRoom
		}
	}
	return fitted{r, size}, nil
}

// Size implements driver.Reader.
func (f fitted) Size() int64 { return f.size }

// ReadAt implements io.ReaderAt.
func (f fitted) ReadAt(p []byte, off int64) (int, error) {
	if err := driver.CheckRange(off, int64(len(p)), f.size); err != nil {
		return 0, err
	}
	there := max(min(int64(len(p)), f.Reader.Size()-off), 0)
	clear(p[there:])
	if there > 0 {
		if _, err := f.Reader.ReadAt(p[:there], off); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Extents implements driver.ExtentReader.
func (f fitted) Extents(off, length int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		extents, ok := f.Reader.(driver.ExtentReader)
		there := max(min(length, f.Reader.Size()-off), 0)
		switch {
		case there > 0 && !ok:
			if !yield(driver.Extent{Off: off, Len: there}, nil) {
				return
			}
		case there > 0:
			for e, err := range extents.Extents(off, there) {
				if !yield(e, err) {
					return
				}
			}
		}
		if there < length {
			yield(driver.Extent{Off: off + there, Len: length - there, Zero: true}, nil)
		}
	}
}
