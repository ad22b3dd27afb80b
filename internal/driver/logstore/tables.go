package logstore

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// whatTable is said of a table of the index whose bytes are not those that
// were written.
const whatTable = "a table of the index does not match its checksums"

// checkTables reads every table of the index from the disk, past all caches,
// and compares each of its blocks with its checksum. Tables that compaction
// removed meanwhile count for nothing. read is told how many bytes were read.
func (s *Store) checkTables(ctx context.Context, read func(n int) error, report func(Damage)) error {
	levels, err := s.db.SSTables()
	if err != nil {
		return indexError(err)
	}
	for _, level := range levels {
		for _, t := range level {
			if err := ctx.Err(); err != nil {
				return block.Wrap(block.Unavailable, err, "the request ended")
			}
			err := checkTable(ctx, s.fs, tableName(s.dir, t))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil && ctx.Err() == nil {
				for _, d := range s.tableDamage(t.Smallest.UserKey, t.Largest.UserKey) {
					d.cause = err
					report(d)
				}
			}
			if err := read(int(t.Size)); err != nil {
				return err
			}
		}
	}
	return nil
}

// suspect notes that Pebble met damage in a table. It may be called with any
// lock held; more than are waiting are met again.
func (s *Store) suspect(first, last []byte) {
	select {
	case s.suspects <- [2][]byte{bytes.Clone(first), bytes.Clone(last)}:
		s.wakeHousekeeper()
	default:
	}
}

// tellSuspects raises the alarm about the tables in which damage was met.
func (s *Store) tellSuspects() {
	for {
		select {
		case keys := <-s.suspects:
			for _, d := range s.tableDamage(keys[0], keys[1]) {
				s.alarm(d)
			}
		default:
			return
		}
	}
}

func tableName(dir string, t pebble.SSTableInfo) string {
	return path.Join(dir, "index", t.BackingSSTNum.String()+".sst")
}

func checkTable(ctx context.Context, fsys vfs.FS, name string) error {
	f, err := (&indexFS{fs: fsys}).Open(name)
	if err != nil {
		return err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	o := pebble.Options{Merger: leafMerger(), FormatMajorVersion: pebble.FormatColumnarBlocks}
	o.EnsureDefaults()
	r, err := sstable.NewReader(ctx, readable, o.MakeReaderOptions()) // closes readable when it fails
	if err != nil {
		return err
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// tableDamage tells of which volumes, and of which ranges of them, a table of
// the index has entries: from its first key to its last.
func (s *Store) tableDamage(first, last []byte) []Damage {
	var all []Damage
	add := func(branch uint64, from, to uint32) {
		d := Damage{What: whatTable, State: Damaged, Volume: s.ownerOf(branch)}
		if d.Volume != "" {
			d.Extent = driver.Extent{Off: int64(from) * leafSize, Len: (int64(to) - int64(from) + 1) * leafSize}
		}
		all = append(all, d)
	}
	s.mu.Lock()
	var branches []uint64
	for num := range s.branches {
		k := numberKey(keyLeaf, num)
		if bytes.Compare(next(k), first) > 0 && bytes.Compare(k, last) <= 0 {
			branches = append(branches, num)
		}
	}
	s.mu.Unlock()
	for _, num := range branches {
		from, to := uint32(0), s.lastLeaf(num)
		if b, leaf, _, ok := parseLeafKey(first); ok && b == num {
			from = leaf
		}
		if b, leaf, _, ok := parseLeafKey(last); ok && b == num {
			to = leaf
		}
		add(num, from, max(from, to))
	}
	if len(all) == 0 {
		all = append(all, Damage{What: whatTable, State: Damaged})
	}
	return all
}

// lastLeaf is the last leaf that the volumes which have a branch reach to.
func (s *Store) lastLeaf(branch uint64) uint32 {
	size := int64(leafSize)
	ids := s.ownersOf(branch)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if v := s.volumes[id]; v != nil {
			size = max(size, v.size.Load())
		}
	}
	return uint32((size - 1) / leafSize)
}
