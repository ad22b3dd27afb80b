// Package vfs is the few file operations that a store needs, once on the
// system's file system and once in memory with power cuts and faults. It is
// not a general file system: paths are plain, there are no permissions, no
// links and no directories inside a listing's answer.
package vfs

import "io"

// FS is a file system. Its methods may be called at once from many
// goroutines. Errors about names that are missing match fs.ErrNotExist.
//
// What a power cut leaves: the bytes of a file up to its last Sync, the names
// of a directory up to its last SyncDir, and of everything later any part.
type FS interface {
	// Create makes an empty file open for reading and writing; a file of that
	// name is emptied.
	Create(name string) (File, error)
	// Open opens a file that exists for reading and writing.
	Open(name string) (File, error)
	// Remove removes a file. Files that are open stay readable.
	Remove(name string) error
	// Rename gives a file another name in one step, replacing a file of that
	// name.
	Rename(from, to string) error
	// MkdirAll makes a directory and its parents, and makes them durable.
	MkdirAll(dir string) error
	// List names the entries of a directory, without its path, in no order.
	List(dir string) ([]string, error)
	// SyncDir makes the names in a directory survive a power cut.
	SyncDir(dir string) error
	// Lock takes a lock that one process holds at a time, made of a file. It
	// ends with the process. It returns ErrLocked when somebody has it.
	Lock(name string) (io.Closer, error)
	// Space tells how much the file system under a directory holds, in bytes.
	Space(dir string) (Space, error)
}

// File is an open file, for use by many goroutines at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes the file's bytes and size survive a power cut (fdatasync). If
	// it fails, what was written since the last one is known to be on the disk
	// only once it was written again and synced: no later Sync makes up for it,
	// also in another process, though reading may give the bytes.
	Sync() error
	// Size in bytes.
	Size() (int64, error)
}

// Space of a file system, in bytes. Free is what an ordinary user may still
// write.
type Space struct{ Total, Free int64 }

type lockedError struct{}

func (lockedError) Error() string { return "locked by another process" }

// ErrLocked is what Lock returns when somebody else has the lock.
var ErrLocked error = lockedError{}
