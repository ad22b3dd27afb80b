package simtest

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// platter is what a zone's power cut leaves of writes that were not flushed: any
// part of them. It knows what every sector held at the last flush.
type platter struct {
	mu     sync.Mutex // guards before
	before map[block.VolumeID]map[int64][]byte
}

func newPlatter() *platter { return &platter{before: map[block.VolumeID]map[int64][]byte{}} }

// dirty remembers what a range holds that is about to be written.
func (p *platter) dirty(id block.VolumeID, dev driver.Device, off, length int64) error {
	old := make([]byte, length)
	if _, err := dev.ReadAt(old, off); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.before[id] == nil {
		p.before[id] = map[int64][]byte{}
	}
	for i := int64(0); i < length; i += sector {
		if _, known := p.before[id][off+i]; !known {
			p.before[id][off+i] = old[i:min(i+sector, length)]
		}
	}
	return nil
}

// flushed forgets what a volume held: all of it is on the disk.
func (p *platter) flushed(id block.VolumeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.before, id)
}

// loss is what a power cut took from a volume.
type loss struct {
	volume     block.VolumeID
	torn, lost bool
}

// cut takes writes back that were not flushed: of each volume all, none or those
// sectors on which the coin falls. No device may be open.
func (p *platter) cut(ctx context.Context, d driver.Driver, rnd *rand.Rand) (all []loss, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(p.before)) {
		keep := rnd.IntN(3) // 0: nothing, 1: all, 2: by the coin
		dev, err := d.OpenVolume(ctx, id)
		if block.Is(err, block.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l := loss{volume: id}
		kept := map[int64]int{} // by block: 1 some sector stays, 2 some goes
		for _, off := range slices.Sorted(maps.Keys(p.before[id])) {
			old, now := p.before[id][off], make([]byte, len(p.before[id][off]))
			if off >= dev.Size() {
				continue
			}
			if _, err := dev.ReadAt(now, off); err != nil {
				return nil, err
			}
			if bytes.Equal(old, now) {
				continue
			}
			if keep == 1 || (keep == 2 && rnd.IntN(2) == 0) {
				kept[off/driver.BlockSize] |= 1
				continue
			}
			kept[off/driver.BlockSize] |= 2
			if _, err := dev.WriteAt(old, off); err != nil {
				return nil, err
			}
		}
		for _, k := range kept {
			l.torn, l.lost = l.torn || k == 3, l.lost || k == 2
		}
		if err := dev.Close(); err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	clear(p.before)
	return all, nil
}
