package vfs

// Event is one operation on a file, as a Watched tells of it.
type Event struct {
	Op     Op
	Name   string
	To     string // the new name, of a rename
	Off, N int64  // of reads and writes, in bytes
}

// Watched is an FS that tells of each operation that has succeeded, in the
// order in which they ended. Note may be called from many goroutines at once.
type Watched struct {
	FS
	Note func(Event)
}

// Unwrap returns the FS underneath.
func (w Watched) Unwrap() FS { return w.FS }

func (w Watched) tell(err error, e Event) error {
	if err == nil {
		w.Note(e)
	}
	return err
}

func (w Watched) file(f File, err error, e Event) (File, error) {
	if w.tell(err, e) != nil {
		return nil, err
	}
	return watchedFile{f, w, e.Name}, nil
}

// Create is FS.Create.
func (w Watched) Create(name string) (File, error) {
	f, err := w.FS.Create(name)
	return w.file(f, err, Event{Op: OpCreate, Name: name})
}

// Open is FS.Open.
func (w Watched) Open(name string) (File, error) {
	f, err := w.FS.Open(name)
	return w.file(f, err, Event{Op: OpOpen, Name: name})
}

// Remove is FS.Remove.
func (w Watched) Remove(name string) error {
	return w.tell(w.FS.Remove(name), Event{Op: OpRemove, Name: name})
}

// Rename is FS.Rename.
func (w Watched) Rename(from, to string) error {
	return w.tell(w.FS.Rename(from, to), Event{Op: OpRename, Name: from, To: to})
}

// SyncDir is FS.SyncDir.
func (w Watched) SyncDir(dir string) error {
	return w.tell(w.FS.SyncDir(dir), Event{Op: OpSyncDir, Name: dir})
}

type watchedFile struct {
	File
	w    Watched
	name string
}

func (f watchedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if n > 0 {
		f.w.Note(Event{Op: OpRead, Name: f.name, Off: off, N: int64(n)})
	}
	return n, err
}

func (f watchedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, f.w.tell(err, Event{Op: OpWrite, Name: f.name, Off: off, N: int64(n)})
}

func (f watchedFile) Sync() error {
	return f.w.tell(f.File.Sync(), Event{Op: OpSync, Name: f.name})
}
