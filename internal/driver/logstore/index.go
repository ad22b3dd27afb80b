package logstore

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// The keys of the index. Numbers in keys are big endian, so that they sort.
//
//	'B' branch                    parent, parent's bound, volume, epoch
//	'C' branch epoch leaf         a leaf that was changed in that epoch
//	'D' branch at                 something is to be swept around a moment of the branch
//	'F'                           something became unreachable that no census has seen
//	'H' branch                    by which branch it was absorbed
//	'L' segment                   a full segment: end, bytes of data, bytes live at most
//	'P' branch leaf ^epoch        runs: what was written in that epoch
//	'Q'                           the position up to which the log is in here
//	'S' volume at                 a snapshot: name, branch, size
//	'V' volume                    id, size, branch
//	'W' branch                    sequence of the last change
const (
	keyBranch   = 'B'
	keyChanged  = 'C'
	keyDirty    = 'D'
	keyFreed    = 'F'
	keyHeir     = 'H'
	keyLeaf     = 'P'
	keyPosition = 'Q'
	keySegment  = 'L'
	keySnapshot = 'S'
	keyVolume   = 'V'
	keyWritten  = 'W'
)

func leafKey(p []byte, branch uint64, leaf uint32, epoch uint64) []byte {
	p = append(p[:0], keyLeaf)
	p = binary.BigEndian.AppendUint64(p, branch)
	p = binary.BigEndian.AppendUint32(p, leaf)
	return binary.BigEndian.AppendUint64(p, ^epoch)
}

// parseLeafKey reads what leafKey wrote.
func parseLeafKey(k []byte) (branch uint64, leaf uint32, epoch uint64, ok bool) {
	if len(k) != 21 || k[0] != keyLeaf {
		return 0, 0, 0, false
	}
	be := binary.BigEndian
	return be.Uint64(k[1:]), be.Uint32(k[9:]), ^be.Uint64(k[13:]), true
}

func changedKey(p []byte, branch, epoch uint64, leaf uint32) []byte {
	p = append(p[:0], keyChanged)
	p = binary.BigEndian.AppendUint64(p, branch)
	p = binary.BigEndian.AppendUint64(p, epoch)
	return binary.BigEndian.AppendUint32(p, leaf)
}

// parseChangedKey reads what changedKey wrote.
func parseChangedKey(k []byte) (branch, epoch uint64, leaf uint32, ok bool) {
	if len(k) != 21 || k[0] != keyChanged {
		return 0, 0, 0, false
	}
	be := binary.BigEndian
	return be.Uint64(k[1:]), be.Uint64(k[9:]), be.Uint32(k[17:]), true
}

// numberKey is a kind and one or two numbers.
func numberKey(kind byte, numbers ...uint64) []byte {
	k := append(make([]byte, 0, 17), kind)
	for _, n := range numbers {
		k = binary.BigEndian.AppendUint64(k, n)
	}
	return k
}

// next is the smallest key after all that begin with k.
func next(k []byte) []byte {
	n := append([]byte(nil), k...)
	for i := len(n) - 1; i >= 0; i-- {
		if n[i]++; n[i] != 0 {
			return n[:i+1]
		}
	}
	return []byte{0xff}
}

// indexLogger passes Pebble's rare messages on and turns its fatal ones, after
// which it can't go on, into the end of the store instead of the process's.
type indexLogger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l indexLogger) Infof(string, ...any) {}

func (l indexLogger) Errorf(format string, args ...any) {
	l.log.Warn("index", "err", block.Errorf(block.Internal, format, args...))
}

func (l indexLogger) Fatalf(format string, args ...any) {
	l.fatal(block.Errorf(block.Unavailable, format, args...))
}

// maxIndexDamages is how often in a row Pebble may meet damage when it joins
// tables. It leaves tables alone for minutes then, but for the newest ones.
const maxIndexDamages = 1000

// indexEvents is who is told of what the index does.
type indexEvents struct {
	// beforeTable is called before a table is written: the index must never be
	// ahead of what the disk has of the log.
	beforeTable func() error
	flushed     func()                   // a table was written
	damaged     func(first, last []byte) // a table with these first and last keys can't be read; any lock may be held
	fatal       func(error)              // the index can't go on
	writes      *patience
}

// readFailed tells whether tables could not be read, rather than written.
func readFailed(err error) bool {
	var at *fs.PathError
	return pebble.IsCorruptionError(err) || errors.As(err, &at) && at.Op == "read"
}

// openIndex opens Pebble; where the index exists it must not be made anew.
// Its own log is off. A table that is damaged concerns those only who need it:
// the store does not stop for it.
func openIndex(fsys vfs.FS, dir string, exists bool, cacheBytes int64, log *slog.Logger,
	events indexEvents) (*pebble.DB, error) {
	dir = path.Join(dir, "index")
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, block.Wrap(ioKind(err), err, "the store's directory can't be made")
	}
	// A process that was killed may have left a new marker whose name is not on
	// the disk. Pebble takes it for good and removes the old one, and if that
	// got to the disk alone there would be no index.
	if err := fsys.SyncDir(dir); err != nil {
		return nil, block.Wrap(ioKind(err), err, "the store's directory can't be synced")
	}
	files := &indexFS{fs: fsys, beforeTable: events.beforeTable, fatal: events.fatal, writes: events.writes}
	var damages atomic.Int32
	opts := &pebble.Options{
		FS: files,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if read := readFailed(err); !read && files.writes.failed(err) || read && damages.Add(1) > maxIndexDamages {
					files.breakOff(err)
				}
			},
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				events.damaged(info.Bounds.Start, info.Bounds.End.Key)
			},
			CompactionEnd: func(info pebble.CompactionInfo) {
				if info.Err == nil {
					files.writes.well()
				}
			},
			FlushEnd: func(info pebble.FlushInfo) {
				if info.Err == nil {
					files.writes.well()
					damages.Store(0)
				}
				events.flushed()
			},
		},
		DisableWAL:         true,
		ErrorIfNotExists:   exists,
		FormatMajorVersion: pebble.FormatColumnarBlocks,
		Merger:             leafMerger(),
		CacheSize:          memoryShare(cacheBytes, blockCacheShare),
		MemTableSize:       uint64(memTable(cacheBytes)),
		// The store waits by itself before there are so many (see behind.go), as
		// it can stop waiting when the log stops. Pebble would hold up for ever
		// whoever closes a store whose tables can't be written.
		MemTableStopWritesThreshold: 1000,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		MaxOpenFiles:                500,
		Logger:                      indexLogger{log, files.breakOff},
		DisableTableStats:           true,
	}
	db, err := pebble.Open(dir, opts)
	files.opened.Store(err == nil)
	return db, block.Wrap(ioKind(err), err, "the store's index can't be opened")
}
