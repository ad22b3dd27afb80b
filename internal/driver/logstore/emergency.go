package logstore

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// The emergency file takes room that nothing else in the file system can then
// take. Opening a store makes its index grow, by what the log has and the index
// lacks; where the file system is full, opening removes the file first. What is
// left of its room lets volumes be deleted, and the segments that this empties
// go back to the file system. It is made again when there is room.

// emergencyTables is how many of the index's memory tables the emergency file
// has room for: as many as may be in memory only when a process ends.
const emergencyTables = memTables

func emergencyName(dir string) string { return path.Join(dir, "emergency") }

func emergencySize(memTable int64) int64 { return emergencyTables * memTable }

// giveUpEmergency removes the emergency file where the file system has less
// room than that. The caller has the store's lock.
func giveUpEmergency(fsys vfs.FS, dir string, memTable int64, log *slog.Logger) error {
	space, err := fsys.Space(dir)
	if err != nil {
		return block.Wrap(block.Unavailable, err, "the file system's free space can't be told")
	}
	if space.Free >= emergencySize(memTable) {
		return nil
	}
	err = fsys.Remove(emergencyName(dir))
	switch {
	case err == nil:
		log.Warn("the file system is full: the store's emergency file was given up to open it")
	case !errors.Is(err, fs.ErrNotExist):
		return block.Wrap(ioKind(err), err, "the store's emergency file can't be removed")
	}
	return nil
}

// keepEmergency makes the emergency file if it is not there as a whole and the
// index has its margin. It is one goroutine's.
func (s *Store) keepEmergency(ctx context.Context) error {
	if err := s.pool.look(); err != nil {
		return err
	}
	want := emergencySize(s.memTable)
	if s.pool.marginNow().lack > 0 || fileSize(s.fs, emergencyName(s.dir)) == want {
		return nil
	}
	f, err := s.fs.Create(emergencyName(s.dir))
	if err != nil {
		return block.Wrap(ioKind(err), err, "the store's emergency file can't be made")
	}
	// Nothing that a file system could leave out or make smaller.
	noise := make([]byte, min(zeroChunk, want))
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	err = fill(ctx, f, want, noise)
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		_ = s.fs.Remove(emergencyName(s.dir)) // if a part stays, it is made anew
		return block.Wrap(ioKind(err), err, "the store's emergency file can't be filled")
	}
	return nil
}

// fileSize is -1 where there is no such file, or nobody can tell.
func fileSize(fsys vfs.FS, name string) int64 {
	f, err := fsys.Open(name)
	if err != nil {
		return -1
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return -1
	}
	return size
}

// fill writes a chunk over and over until a file has so many bytes, and syncs
// it.
func fill(ctx context.Context, f vfs.File, size int64, chunk []byte) error {
	for off := int64(0); off < size; off += int64(len(chunk)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.WriteAt(chunk[:min(int64(len(chunk)), size-off)], off); err != nil {
			return err
		}
	}
	return f.Sync()
}
