package logstore

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// content is what blocks hold; those that are missing are zeros. The slices
// are never changed.
type content map[int64][]byte

// modelSnapshot and modelVolume are what a store should have.
type modelSnapshot struct {
	name block.PointID
	size int64
	data content
}

type modelVolume struct {
	size  int64
	data  content
	snaps []modelSnapshot
}

// model is the state of a whole store; it is not changed once it is in a
// history.
type model map[block.VolumeID]modelVolume

func (m model) clone() model {
	out := maps.Clone(m)
	for id, v := range out {
		v.data, v.snaps = maps.Clone(v.data), slices.Clone(v.snaps)
		out[id] = v
	}
	return out
}

// get returns a block's bytes.
func (c content) get(b int64) []byte {
	if p := c[b]; p != nil {
		return p
	}
	return make([]byte, blockSize)
}

// differs tells in words where two states differ first, or "".
func (m model) differs(o model) string {
	for id := range o {
		if _, ok := m[id]; !ok {
			return fmt.Sprintf("volume %s is missing", id)
		}
	}
	for id, v := range m {
		w, ok := o[id]
		if !ok {
			return fmt.Sprintf("volume %s should not be there", id)
		}
		if v.size != w.size || len(v.snaps) != len(w.snaps) {
			return fmt.Sprintf("volume %s: size %d/%d, %d/%d snapshots", id, v.size, w.size, len(v.snaps), len(w.snaps))
		}
		if d := v.data.differs(w.data); d != "" {
			return fmt.Sprintf("volume %s: %s", id, d)
		}
		for i, s := range v.snaps {
			t := w.snaps[i]
			if s.name != t.name || s.size != t.size {
				return fmt.Sprintf("volume %s: snapshot %s/%s", id, s.name, t.name)
			}
			if d := s.data.differs(t.data); d != "" {
				return fmt.Sprintf("volume %s at %s: %s", id, s.name, d)
			}
		}
	}
	return ""
}

func (c content) differs(o content) string {
	for b := range c {
		if !bytes.Equal(c.get(b), o.get(b)) {
			return fmt.Sprintf("block %d", b)
		}
	}
	for b := range o {
		if !bytes.Equal(c.get(b), o.get(b)) {
			return fmt.Sprintf("block %d", b)
		}
	}
	return ""
}

// readAll reads a store's whole state; only where an extent holds data.
func readAll(ctx context.Context, s *Store) (model, error) {
	out := model{}
	for info, err := range s.Volumes(ctx) {
		if err != nil {
			return nil, err
		}
		v := modelVolume{size: info.Size}
		dev, err := s.OpenVolume(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		if dev.Size() != info.Size {
			return nil, fmt.Errorf("volume %s: size %d, listed with %d", info.ID, dev.Size(), info.Size)
		}
		v.data, err = readData(dev)
		dev.Close()
		if err != nil {
			return nil, err
		}
		list, err := s.Snapshots(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		for _, sn := range list {
			r, err := s.OpenSnapshot(ctx, driver.SnapshotRef{Volume: info.ID, Name: sn.Name})
			if err != nil {
				return nil, err
			}
			data, err := readData(r)
			r.Close()
			if err != nil {
				return nil, err
			}
			v.snaps = append(v.snaps, modelSnapshot{sn.Name, sn.Size, data})
		}
		out[info.ID] = v
	}
	return out, nil
}

func readData(r driver.Reader) (content, error) {
	out := content{}
	for e, err := range r.(driver.ExtentReader).Extents(0, r.Size()) {
		if err != nil {
			return nil, err
		}
		if e.Zero {
			continue
		}
		p := make([]byte, e.Len)
		if _, err := r.ReadAt(p, e.Off); err != nil {
			return nil, err
		}
		for i := int64(0); i < e.Len; i += blockSize {
			out[(e.Off+i)/blockSize] = p[i : i+blockSize]
		}
	}
	return out, nil
}

// checkDiffs compares Diff with what the state says, for neighbouring
// snapshots.
func checkDiffs(ctx context.Context, s *Store, m model) error {
	for id, v := range m {
		var before modelSnapshot
		for _, after := range v.snaps {
			from := driver.SnapshotRef{}
			if before.name != "" {
				from = driver.SnapshotRef{Volume: id, Name: before.name}
			}
			if err := checkDiff(ctx, s, id, from, before, after); err != nil {
				return err
			}
			before = after
		}
	}
	return nil
}

func checkDiff(ctx context.Context, s *Store, id block.VolumeID, from driver.SnapshotRef,
	before, after modelSnapshot) error {
	seen, end := map[int64]bool{}, int64(0)
	for e, err := range s.Diff(ctx, from, driver.SnapshotRef{Volume: id, Name: after.name}) {
		if err != nil {
			return err
		}
		if e.Off < end || e.End() > after.size {
			return fmt.Errorf("diff of %s: extent %v is out of order or bounds", id, e)
		}
		end = e.End()
		for b := e.Off / blockSize; b*blockSize < e.End(); b++ {
			seen[b] = true
			if e.Zero != driver.IsZero(after.data.get(b)) {
				return fmt.Errorf("diff of %s: block %d is zero or not", id, b)
			}
		}
	}
	for b := range after.size / blockSize {
		if !seen[b] && (before.data[b] != nil || after.data[b] != nil) &&
			!bytes.Equal(before.data.get(b), after.data.get(b)) {
			return fmt.Errorf("diff of %s from %q to %s lacks block %d", id, before.name, after.name, b)
		}
	}
	return nil
}

// randomBlock is never all zeros.
func randomBytes(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	stamp := rng.Uint64() | 1
	for i := range p {
		p[i] = byte(stamp >> (i % 8 * 8))
	}
	p[0] |= 1
	return p
}
