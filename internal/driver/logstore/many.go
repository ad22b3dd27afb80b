package logstore

import (
	"slices"
	"sync"

	"kvol/internal/driver"
)

// manyBytes bounds the writes that go into the log as one piece, so that nobody
// waits long for the store's lock.
const manyBytes = 256 << 10

// record is a write record that is to be appended, and its body and data.
type record struct {
	header
	crcs, bytes []byte
}

// WriteMany implements driver.ManyWriter. Writes of whole blocks within a leaf
// go as records of their own into the log with one operation on its file, and
// into the index with one batch.
func (d *device) WriteMany(parts []driver.Part) (done int, err error) {
	for done < len(parts) {
		n := d.together(parts[done:])
		if n < 2 {
			if _, err := d.WriteAt(parts[done].Data, parts[done].Off); err != nil {
				return done, err
			}
			done++
			continue
		}
		k, err := d.writeTogether(parts[done : done+n])
		if done += k; err != nil {
			return done, err
		}
	}
	return done, nil
}

// together tells how many of the first writes are one record each, and may go
// into the log as one piece.
func (d *device) together(parts []driver.Part) int {
	maxRun, total := d.store.maxRun(), 0
	for i, p := range parts {
		first, blocks := p.Off/blockSize, int64(len(p.Data))/blockSize
		whole := p.Off%blockSize == 0 && len(p.Data)%blockSize == 0 && blocks > 0
		if !whole || blocks > min(maxRun, leafBlocks-first%leafBlocks) || d.check(p.Off, int64(len(p.Data))) != nil {
			return i
		}
		if total += len(p.Data); total > manyBytes {
			return i
		}
	}
	return len(parts)
}

func (d *device) writeTogether(parts []driver.Part) (done int, err error) {
	var of stripeSet
	for _, p := range parts {
		of.add(p.Off / blockSize)
	}
	d.share(of)
	defer d.unshare(of)
	return d.writeMany(parts)
}

// manyWriter is what several writes need beside their data.
type manyWriter struct {
	records []record
	crcs    []byte
}

var manyWriters = sync.Pool{New: func() any { return &manyWriter{crcs: make([]byte, 0, manyBytes/blockSize*4)} }}

// fill makes the records of writes that go together.
func (w *manyWriter) fill(volume, branch uint64, parts []driver.Part) (total int) {
	w.records, w.crcs = w.records[:0], w.crcs[:0]
	for _, p := range parts {
		from := len(w.crcs) // it has the room: what was appended before stays where it is
		for rest := p.Data; len(rest) > 0; rest = rest[blockSize:] {
			w.crcs = le.AppendUint32(w.crcs, blockCRC(rest[:blockSize]))
		}
		h := header{op: opWrite, volume: volume, branch: branch, first: uint64(p.Off / blockSize),
			count: uint32(len(p.Data) / blockSize), body: uint32(len(w.crcs) - from), data: uint32(len(p.Data))}
		w.records = append(w.records, record{h, w.crcs[from:], p.Data})
		total += len(p.Data)
	}
	return total
}

// writeMany appends writes that go together.
func (d *device) writeMany(parts []driver.Part) (done int, err error) {
	s := d.store
	w := manyWriters.Get().(*manyWriter)
	defer func() {
		clear(w.records)
		manyWriters.Put(w)
	}()
	s.pace.hold(w.fill(d.volume.num, d.branch.num, parts), s.now)
	for done < len(parts) {
		if s.closed.Load() {
			return done, errClosed()
		}
		s.mu.Lock()
		n, err := 0, d.usable()
		if err == nil {
			n, err = s.commitMany(w.records[done:])
		}
		s.mu.Unlock()
		done += n
		if err == nil {
			continue
		}
		if again, err := s.waitFor(err, forWriting); !again {
			return done, err
		}
	}
	return done, nil
}

// commitMany is commit of the first few write records of one branch, and tells
// how many. The caller holds s.mu.
func (s *Store) commitMany(records []record) (n int, err error) {
	if s.tooMuch() {
		return 0, errBehind
	}
	at, n, err := s.log.appendMany(records, forWriting)
	if err != nil {
		return 0, err
	}
	if err := s.applyMany(records[:n], at); err != nil {
		s.indexFailed(err)
		return 0, s.log.failed()
	}
	return n, nil
}

// applyMany is apply of write records of one branch that lie one after the
// other. One batch has them all, so that the index again is exactly the log up
// to some record.
func (s *Store) applyMany(records []record, at position) error {
	br := s.branches[records[0].branch]
	if br == nil {
		return corruptRecord()
	}
	b := s.db.NewBatch()
	defer b.Close()
	s.patch = s.patch[:0]
	for i := range records {
		r := &records[i]
		if err := s.countRecord(b, &r.header, at); err != nil {
			return err
		}
		touched := slices.ContainsFunc(records[:i], func(o record) bool { return o.first/leafBlocks == r.first/leafBlocks })
		touched = touched && !s.hooks.is(forgetTouched)
		if err := s.noteWrite(b, br, &r.header, r.crcs, at, touched); err != nil {
			return err
		}
		if at = at.after(&r.header); i == 0 && s.hooks.is(splitGroup) {
			s.commitTooMuch(b, records, at)
		}
	}
	s.setWrittenFast(b, br)
	return s.commitBatch(b, at, s.patchCache)
}
