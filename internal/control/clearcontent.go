package control

import (
	"context"
	"crypto/rand"
	"errors"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/keystore"
	"kvol/internal/luks"
)

// headerProbe is how much of a container is read to know its header.
const headerProbe = 4096

// readClear returns what the user of a volume reads in what its store has,
// whether the zone encrypts the volume or a host does. A host that opens its
// container sees less than the volume has bytes.
func (s *Service) readClear(ctx context.Context, v block.Volume, stored driver.Reader) (driver.Reader, error) {
	e := v.Encryption
	if e == nil || e.ByZone() {
		return s.clear(ctx, v, freeze(stored))
	}
	key, err := s.key(ctx, e)
	if err != nil {
		return nil, err
	}
	probe := make([]byte, headerProbe)
	if _, err := stored.ReadAt(probe, 0); err != nil {
		return nil, err
	}
	if !luks.IsHeader(probe) {
		return neverOpened(stored, key)
	}
	h, err := luks.Parse(probe)
	if err != nil {
		return nil, errors.Join(errNoContainer, err)
	}
	master, err := h.Unlock(ctx, stored, keystore.Passphrase(key))
	if block.Is(err, block.Forbidden) {
		err = errors.Join(errNoContainer, err)
	}
	if err != nil {
		return nil, err
	}
	c, err := luks.NewCipher(master)
	if err != nil {
		return nil, err
	}
	return luks.NewPayload(stored, c, h.PayloadOffset), nil
}

// neverOpened is what is on a volume that no host has opened yet: the container
// that it would make there, of zeros.
func neverOpened(stored driver.Reader, key []byte) (driver.Reader, error) {
	head := make([]byte, luks.HeaderSize)
	if _, err := stored.ReadAt(head, 0); err != nil {
		return nil, err
	}
	if !driver.IsZero(head) {
		return nil, errNoContainer
	}
	c, err := luks.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return luks.NewPayload(stored, c, luks.HeaderSize), nil
}

// writeClear is the way back: a device of which the store's then has the cipher
// that a volume with this encryption has. For one that hosts encrypt it is a
// container; blank says that it was made now, and not by an attempt before.
func (s *Service) writeClear(ctx context.Context, id block.VolumeID, e *block.VolumeEncryption,
	stored driver.Device) (clear driver.Device, blank bool, err error) {
	if e == nil || e.ByZone() {
		clear, err = s.clear(ctx, block.Volume{ID: id, Encryption: e}, stored)
		return clear, false, err
	}
	key, err := s.key(ctx, e)
	if err != nil {
		return nil, false, err
	}
	master, ok, err := openedBefore(ctx, stored, keystore.Passphrase(key))
	if err != nil {
		return nil, false, err
	}
	if !ok {
		master = make([]byte, len(key))
		rand.Read(master)
		header, err := luks.Format(master, keystore.Passphrase(key), string(id))
		if err != nil {
			return nil, false, err
		}
		if _, err := stored.WriteAt(header, 0); err != nil {
			return nil, false, err
		}
	}
	c, err := luks.NewCipher(master)
	if err != nil {
		return nil, false, err
	}
	return luks.NewContainer(stored, c), !ok, nil
}

// openedBefore finds the master key of a container that Format made; ok is false
// if there is none that the passphrase opens.
func openedBefore(ctx context.Context, stored driver.Device, passphrase []byte) (master []byte, ok bool, err error) {
	probe := make([]byte, headerProbe)
	if _, err := stored.ReadAt(probe, 0); err != nil {
		return nil, false, err
	}
	h, err := luks.Parse(probe)
	if err != nil || h.PayloadOffset != luks.HeaderSize {
		return nil, false, nil // half of it was written, or nothing
	}
	master, err = h.Unlock(ctx, stored, passphrase)
	if block.Is(err, block.Forbidden) {
		return nil, false, nil
	}
	return master, err == nil, err
}
