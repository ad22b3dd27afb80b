package logstore

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

const (
	superName     = "superblock"
	superMagic    = 0x316b6c6276_6b // "kvblk1"
	superSize     = 4096            // of each of two slots
	superUsed     = 64
	formatVersion = 2
	oldestVersion = 1 // that can be opened
)

// superblock says what the directory is. Two slots are written in turn, so
// that one is whole at any time; the higher counter counts.
type superblock struct {
	counter     uint64
	version     uint32
	generation  uint32 // rises each time the store is opened
	salt        uint64 // of record checksums; secret
	id          uint64 // of the store
	segmentSize uint64
	clean       bool // closed in order; the log needs no replay
}

func (b *superblock) encode() []byte {
	p := make([]byte, superSize)
	le.PutUint64(p[0:], superMagic)
	le.PutUint64(p[8:], b.counter)
	le.PutUint32(p[16:], b.version)
	le.PutUint32(p[20:], b.generation)
	le.PutUint64(p[24:], b.salt)
	le.PutUint64(p[32:], b.id)
	le.PutUint64(p[40:], b.segmentSize)
	if b.clean {
		p[48] = 1
	}
	le.PutUint32(p[superUsed-4:], blockCRC(p[:superUsed-4]))
	return p
}

func parseSuper(p []byte) (b superblock, ok bool) {
	if len(p) < superUsed || le.Uint64(p) != superMagic || le.Uint32(p[superUsed-4:]) != blockCRC(p[:superUsed-4]) {
		return b, false
	}
	return superblock{
		counter: le.Uint64(p[8:]), version: le.Uint32(p[16:]), generation: le.Uint32(p[20:]),
		salt: le.Uint64(p[24:]), id: le.Uint64(p[32:]), segmentSize: le.Uint64(p[40:]), clean: p[48] == 1,
	}, true
}

// readSuper returns the newer of the two slots. found is false where no store
// was ever made: there is no file, or none of the slots was ever written
// whole, which happens only before anything else is. It is Corrupt where there
// was a store, which a new one would be written over.
func readSuper(fsys vfs.FS, dir string) (b superblock, found bool, err error) {
	f, err := fsys.Open(path.Join(dir, superName))
	if errors.Is(err, fs.ErrNotExist) {
		return b, false, checkNothing(fsys, dir)
	}
	if err != nil {
		return b, false, block.Wrap(block.Unavailable, err, "the store's superblock can't be opened")
	}
	defer f.Close()
	p := make([]byte, 2*superSize)
	if n, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return b, false, block.Wrap(block.Unavailable, err, "the store's superblock can't be read")
	} else {
		clear(p[n:])
	}
	for _, slot := range [][]byte{p[:superSize], p[superSize:]} {
		if s, ok := parseSuper(slot); ok && (!found || s.counter > b.counter) {
			b, found = s, true
		}
	}
	if found {
		err = checkVersion(b.version)
	} else {
		err = checkNothing(fsys, dir)
	}
	return b, found, err
}

// checkNothing refuses a directory without a superblock that has an index, or a
// segment that was written to. The superblock is on the disk before there is
// either.
func checkNothing(fsys vfs.FS, dir string) error {
	lost := block.Errorf(block.Corrupt, "the store's superblock is lost, while its log or index is there; nothing was "+
		"changed, and kvol store mend can't make it anew: put the file %s back from a copy, or recover the store's volumes "+
		"in other zones, and begin with an empty directory", superName)
	names, err := listed(fsys, path.Join(dir, "index"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "MANIFEST") || strings.HasSuffix(name, ".sst") {
			return lost
		}
	}
	names, err = listed(fsys, path.Join(dir, segmentDir))
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, ok := segmentID(name); !ok {
			continue
		} else if used, err := begun(fsys, segmentName(dir, id)); err != nil {
			return err
		} else if used {
			return lost
		}
	}
	return nil
}

// listed lists a directory that need not be there.
func listed(fsys vfs.FS, dir string) ([]string, error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, block.Wrap(block.Unavailable, err, "the store's directory can't be listed")
}

// begun reports whether a segment was ever written to.
func begun(fsys vfs.FS, name string) (bool, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return false, block.Wrap(block.Unavailable, err, "a segment of the store can't be opened")
	}
	defer f.Close()
	p := make([]byte, 4)
	if _, err := f.ReadAt(p, 0); isIOError(err) {
		return false, unreadable(err)
	}
	return le.Uint32(p) == segmentMagic, nil
}

// checkVersion refuses a store of a format that this program can't use, before
// anything of it was touched, and says what to do.
func checkVersion(version uint32) error {
	switch {
	case version > formatVersion:
		return block.Errorf(block.Unsupported, "the store has format %d, which is newer than format %d that this "+
			"program knows; nothing was changed: use the program that wrote it, or a later one", version, formatVersion)
	case version < oldestVersion:
		return block.Errorf(block.Unsupported, "the store has format %d, which is older than format %d that this "+
			"program can open; nothing was changed: replicate its volumes to a new store with the program that wrote it",
			version, oldestVersion)
	}
	return nil
}

// writeSuper writes the next slot and waits for the disk.
func writeSuper(fsys vfs.FS, dir string, b *superblock) error {
	name := path.Join(dir, superName)
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(name)
	}
	if err != nil {
		return block.Wrap(ioKind(err), err, "the store's superblock can't be opened")
	}
	defer f.Close()
	b.counter++
	if _, err = f.WriteAt(b.encode(), int64(b.counter%2)*superSize); err == nil {
		if err = f.Sync(); err == nil {
			err = fsys.SyncDir(dir)
		}
	}
	return block.Wrap(ioKind(err), err, "the store's superblock can't be written")
}

func newSuper(segmentSize int64) (*superblock, error) {
	var p [16]byte
	if _, err := rand.Read(p[:]); err != nil {
		return nil, block.Wrap(block.Internal, err, "no random numbers")
	}
	return &superblock{version: formatVersion, salt: le.Uint64(p[:]), id: le.Uint64(p[8:]),
		segmentSize: uint64(segmentSize)}, nil
}
