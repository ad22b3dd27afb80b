package logstore

import (
	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
)

// maxOperands is how many blind changes a version of a leaf may gather before
// they are joined, so that reading it stays cheap.
const maxOperands = 64

// maxRecent bounds the memory of which leaves were changed lately.
const maxRecent = 1 << 16

// versionID names one version of a leaf.
type versionID struct {
	branch, epoch uint64
	leaf          uint32
}

// apply brings the index and the nouns in memory up to date with one record;
// live and in recovery alike. The batch carries the position after the record,
// so that what the index keeps of it is a prefix of the log, exactly. The
// caller holds s.mu, or is recovery.
func (s *Store) apply(h *header, body []byte, at position) error {
	b := s.db.NewBatch()
	defer b.Close()
	if err := s.countRecord(b, h, at); err != nil {
		return err
	}
	after, err := s.applyOp(b, h, body, at)
	if err != nil {
		return err
	}
	return s.commitBatch(b, at.after(h), after)
}

// after is the position after a record.
func (p position) after(h *header) position {
	return position{segment: p.segment, off: p.off + h.size(), seq: h.seq + 1, generation: h.generation}
}

// commitBatch commits what the records up to a position change.
func (s *Store) commitBatch(b *pebble.Batch, end position, after func()) error {
	s.scratch = end.encode(s.scratch[:0])
	if err := b.Set(positionKey, s.scratch, nil); err != nil {
		return indexError(err)
	}
	s.sinceLook += int64(b.Len())
	if err := b.Commit(pebble.NoSync); err != nil {
		return indexError(err)
	}
	if after != nil {
		after()
	}
	if s.indexed > s.indexEvery {
		s.indexed = 0
		if _, err := s.db.AsyncFlush(); err != nil {
			return indexError(err)
		}
	}
	return nil
}

// defaultIndexEvery bounds the log that recovery has to read, in bytes.
const defaultIndexEvery = 256 << 20

var positionKey = []byte{keyPosition}

// applyOp fills b and changes the nouns in memory. What it returns is to be
// done once b is committed.
func (s *Store) applyOp(b *pebble.Batch, h *header, body []byte, at position) (func(), error) {
	d := &decoder{p: body}
	switch h.op {
	case opOpen:
		return nil, nil
	case opWrite:
		return s.applyWrite(b, h, body, at)
	case opZero:
		return s.applyZero(b, h)
	case opRelocate:
		return s.applyRelocate(b, h, body, at)
	case opCreate:
		id, size := d.text(), d.uint()
		return nil, s.orCorrupt(d, func() error { return s.applyCreate(b, h, id, size, nil) })
	case opClone:
		id, size, parent, bound := d.text(), d.uint(), d.uint(), d.uint()
		from := s.cloned(h.volume, parent, bound)
		if from == nil {
			return nil, corruptRecord()
		}
		return nil, s.orCorrupt(d, func() error { return s.applyCreate(b, h, id, size, from) })
	case opSnapshot:
		return nil, s.applySnapshot(b, h, d)
	}
	v := s.numbers[h.volume]
	if v == nil {
		return nil, corruptRecord()
	}
	arg := d.uint()
	return nil, s.orCorrupt(d, func() error {
		switch h.op {
		case opExtend:
			v.size.Store(int64(arg))
			v.branch.written.Store(h.seq)
			setWritten(b, v.branch)
			return indexError(b.Set(numberKey(keyVolume, v.num), v.value(), nil))
		case opRewind:
			return s.applyRewind(b, h, v, arg)
		case opDelete:
			return s.applyDelete(b, v)
		default:
			return s.applyDeleteSnapshot(b, v, arg)
		}
	})
}

func corruptRecord() error {
	return block.Errorf(block.Corrupt, "a record of the store's log does not fit what is before it")
}

func (s *Store) orCorrupt(d *decoder, f func() error) error {
	if err := d.done("record"); err != nil {
		return err
	}
	return f()
}

func setWritten(b *pebble.Batch, br *branch) {
	var v [8]byte
	le.PutUint64(v[:], br.written.Load())
	_ = b.Set(numberKey(keyWritten, br.num), v[:], nil) // fails for closed batches only
}

func (s *Store) applyWrite(b *pebble.Batch, h *header, body []byte, at position) (func(), error) {
	br := s.branches[h.branch]
	if br == nil {
		return nil, corruptRecord()
	}
	s.patch = s.patch[:0]
	if err := s.noteWrite(b, br, h, body, at, false); err != nil {
		return nil, err
	}
	s.setWrittenFast(b, br)
	return s.patchCache, nil
}

// noteWrite points the index at the blocks of a write record. touched says that
// b already has a change of the leaf.
func (s *Store) noteWrite(b *pebble.Batch, br *branch, h *header, body []byte, at position, touched bool) error {
	leaf := uint32(h.first / leafBlocks)
	r := run{first: int(h.first % leafBlocks), count: int(h.count), segment: at.segment,
		off: uint32(at.off + h.dataOff()), crcs: body}
	if err := s.mergeRun(b, br, leaf, r, touched); err != nil {
		return err
	}
	s.places.wrote(br, leaf, r, s.overwritten)
	br.written.Store(h.seq)
	s.patch = append(s.patch, patch{leafID{br.num, head, leaf}, r})
	return nil
}

// setWrittenFast is setWritten without garbage.
func (s *Store) setWrittenFast(b *pebble.Batch, br *branch) {
	s.keyBuf = append(s.keyBuf[:0], keyWritten)
	s.keyBuf = be.AppendUint64(s.keyBuf, br.num)
	s.valueBuf = le.AppendUint64(s.valueBuf[:0], br.written.Load())
	_ = b.Set(s.keyBuf, s.valueBuf, nil)
}

// patch is a change of a leaf that the cache may hold.
type patch struct {
	id  leafID
	run run
}

func (s *Store) patchCache() {
	for _, p := range s.patch {
		s.cache.patch(p.id, p.run)
	}
}

// mergeRun adds a run to the present version of a leaf without reading it, but
// now and then to join what was added. That waits where b already has a change
// of the leaf, which reading would miss.
func (s *Store) mergeRun(b *pebble.Batch, br *branch, leaf uint32, r run, touched bool) error {
	epoch := br.epoch
	id := versionID{br.num, epoch, leaf}
	s.keyBuf = leafKey(s.keyBuf, br.num, leaf, epoch)
	n := s.recent[id]
	if n >= maxOperands && !touched {
		var c cells
		err := s.version(s.keyBuf, &c)
		if err == nil {
			c.apply(r)
			s.valueBuf = c.encode(s.valueBuf[:0])
			s.recent[id] = 1
			return indexError(b.Set(s.keyBuf, s.valueBuf, nil))
		}
		if !mendable(err) { // damage of one leaf stops nobody else
			return err
		}
	}
	s.valueBuf = appendRun(s.valueBuf[:0], r)
	if err := b.Merge(s.keyBuf, s.valueBuf, nil); err != nil {
		return indexError(err)
	}
	if n == 0 {
		if len(s.recent) >= maxRecent {
			clear(s.recent)
		}
		s.keyBuf = changedKey(s.keyBuf, br.num, epoch, leaf)
		if err := b.Set(s.keyBuf, nil, nil); err != nil {
			return indexError(err)
		}
	}
	s.recent[id] = n + 1
	return nil
}

// applyZero notes zeros in the leaves that have anything in the range.
func (s *Store) applyZero(b *pebble.Batch, h *header) (func(), error) {
	br := s.branches[h.branch]
	if br == nil || h.first >= maxBlocks {
		return nil, corruptRecord()
	}
	s.patch = s.patch[:0]
	end := h.first + uint64(h.count)
	var leaves []uint32
	err := s.eachLeaf(br, head, uint32(h.first/leafBlocks), uint32((end-1)/leafBlocks), func(leaf uint32) bool {
		leaves = append(leaves, leaf)
		return true
	})
	if mendable(err) { // which leaves there are is not known
		leaves, err = leaves[:0], nil
		for leaf := h.first / leafBlocks; leaf <= (end-1)/leafBlocks; leaf++ {
			leaves = append(leaves, uint32(leaf))
		}
	}
	if err != nil {
		return nil, err
	}
	for _, leaf := range leaves {
		base := uint64(leaf) * leafBlocks
		from, to := max(h.first, base), min(end, base+leafBlocks)
		r := run{first: int(from - base), count: int(to - from)}
		if err := s.mergeRun(b, br, leaf, r, false); err != nil {
			return nil, err
		}
		s.places.wrote(br, leaf, r, s.overwritten)
		s.patch = append(s.patch, patch{leafID{br.num, head, leaf}, r})
	}
	br.written.Store(h.seq)
	setWritten(b, br)
	if len(leaves) > 0 {
		s.uncounted(b)
	}
	return s.patchCache, nil
}

// applyRelocate points the index at a copy of blocks, as far as it still
// points at the original.
func (s *Store) applyRelocate(b *pebble.Batch, h *header, body []byte, at position) (func(), error) {
	from, crcs := parseRelocation(body), body[relocateFixed:]
	leaf, first := uint32(h.first/leafBlocks), int(h.first%leafBlocks)
	blocks, to := make([]relocating, h.count), make([]cell, h.count)
	for i := range blocks {
		crc := le.Uint32(crcs[i*4:])
		blocks[i] = relocating{first + i, cell{from.segment, from.off + uint32(i)*blockSize, crc, true}}
		to[i] = cell{at.segment, uint32(at.off+h.dataOff()) + uint32(i)*blockSize, crc, true}
	}
	return s.redirect(b, h.branch, from.epoch, leaf, blocks, to)
}

// cloned is the snapshot that a clone record names; format 1 names only the
// branch, which then is the volume's own.
func (s *Store) cloned(volume, parent, at uint64) *snapshot {
	if br := s.branches[parent]; volume == 0 && br != nil {
		volume = br.volume
	}
	if v := s.numbers[volume]; v != nil {
		return v.snapshots.at(at)
	}
	return nil
}

func (s *Store) applyCreate(b *pebble.Batch, h *header, id string, size uint64, from *snapshot) error {
	if s.volumes[block.VolumeID(id)] != nil {
		return corruptRecord()
	}
	v := &volume{num: h.seq, id: block.VolumeID(id)}
	v.size.Store(int64(size))
	s.volumes[v.id], s.numbers[v.num] = v, v
	s.beginBranch(b, h, v, from)
	return indexError(b.Set(numberKey(keyVolume, v.num), v.value(), nil))
}

// beginBranch makes v go on in a branch of its own, from a snapshot if there is
// one.
func (s *Store) beginBranch(b *pebble.Batch, h *header, v *volume, from *snapshot) {
	line := &lineage{}
	if from != nil {
		line.parent, line.at = from.branch.final(), from.at
	}
	br := newBranch(h.seq, v.num, line)
	br.head = true
	if from != nil {
		from.mark.holders++
		br.adopt(from.mark)
	}
	br.written.Store(h.seq)
	s.branches[br.num], v.branch = br, br
	_ = b.Set(numberKey(keyBranch, br.num), br.value(), nil)
	setWritten(b, br)
	s.lookDeep(br)
}

func (s *Store) applySnapshot(b *pebble.Batch, h *header, d *decoder) error {
	n := d.uint()
	for range min(n, maxBody) {
		v, name := s.numbers[d.uint()], d.text()
		if d.bad || v == nil {
			return corruptRecord()
		}
		snap := &snapshot{name: block.PointID(name), at: h.seq, branch: v.branch, mark: v.branch.addMark(h.seq),
			size: v.size.Load()}
		v.snapshots.add(snap)
		if !s.hooks.is(skipEpoch) {
			v.branch.epoch = h.seq
		}
		_ = b.Set(numberKey(keySnapshot, v.num, h.seq), snap.value(), nil)
		_ = b.Set(numberKey(keyBranch, v.branch.num), v.branch.value(), nil)
	}
	return d.done("record")
}

func (s *Store) applyRewind(b *pebble.Batch, h *header, v *volume, at uint64) error {
	to := v.snapshots.at(at)
	if to == nil {
		return corruptRecord()
	}
	old := v.branch
	v.size.Store(to.size)
	s.beginBranch(b, h, v, to)
	for snap := range v.snapshots.backward(to) {
		s.dropSnapshot(b, v, snap)
	}
	s.endHead(b, old)
	return indexError(b.Set(numberKey(keyVolume, v.num), v.value(), nil))
}

func (s *Store) applyDelete(b *pebble.Batch, v *volume) error {
	for snap := range v.snapshots.backward(nil) {
		s.dropSnapshot(b, v, snap)
	}
	delete(s.volumes, v.id)
	delete(s.numbers, v.num)
	s.endHead(b, v.branch)
	return indexError(b.Delete(numberKey(keyVolume, v.num), nil))
}

func (s *Store) applyDeleteSnapshot(b *pebble.Batch, v *volume, at uint64) error {
	snap := v.snapshots.at(at)
	if snap == nil {
		return corruptRecord()
	}
	s.dropSnapshot(b, v, snap)
	return nil
}

func (s *Store) dropSnapshot(b *pebble.Batch, v *volume, snap *snapshot) {
	v.snapshots.remove(snap)
	_ = b.Delete(numberKey(keySnapshot, v.num, snap.at), nil)
	s.letGo(b, snap.branch.final(), snap.mark)
}

// letGo takes one holder of a mark away. Where none is left, what is on its two
// sides is to be joined.
func (s *Store) letGo(b *pebble.Batch, br *branch, m *mark) {
	if m.holders--; m.holders == 0 {
		br.unlink(m)
		s.mustSweep(b, br, m.at)
	}
	s.keepOrDrop(b, br)
}

// endHead says that no volume writes to a branch any more: what lies after its
// last mark goes.
func (s *Store) endHead(b *pebble.Batch, br *branch) {
	br.head = false
	br.soil(br.last(), head)
	s.mustSweep(b, br, head)
	s.keepOrDrop(b, br)
}

func (s *Store) mustSweep(b *pebble.Batch, br *branch, at uint64) {
	s.dirty[br] = struct{}{}
	_ = b.Set(numberKey(keyDirty, br.num, at), nil, nil)
}

// keepOrDrop looks what becomes of a branch that lost something. One that nothing
// needs goes with all that it holds.
func (s *Store) keepOrDrop(b *pebble.Batch, br *branch) {
	if br.head || br.marked() {
		s.mayAbsorb(br)
		return
	}
	s.uncounted(b)
	delete(s.branches, br.num)
	delete(s.dirty, br)
	delete(s.candidates, br)
	line := br.line.Load()
	for _, num := range []uint64{br.num, line.rest} {
		for _, kind := range []byte{keyLeaf, keyChanged} {
			if num != 0 {
				k := numberKey(kind, num)
				_ = b.DeleteRange(k, next(k), nil)
			}
		}
	}
	for _, kind := range []byte{keyBranch, keyWritten} {
		_ = b.Delete(numberKey(kind, br.num), nil)
	}
	k := numberKey(keyDirty, br.num)
	_ = b.DeleteRange(k, next(k), nil)
	s.dropAliases(b, br)
	if line.parent != nil {
		m := br.pin
		br.orphan()
		s.letGo(b, line.parent.final(), m)
	}
}
