package logstore

import (
	"fmt"
	"path"
	"sync"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

const (
	segmentDir    = "segments"
	segmentHeader = 64
	maxHandles    = 256 // segment files that are open for reading
)

// segmentInfo opens a segment file: which segment it is, and where the log
// went on from.
type segmentInfo struct {
	id         uint32 // never used again
	generation uint32
	firstSeq   uint64 // of its first record
	prev       uint32 // id of the segment before; 0 for none
	prevEnd    uint32 // where the log ends in the segment before
}

func (s *segmentInfo) encode(salt uint64) []byte {
	p := make([]byte, segmentHeader)
	le.PutUint32(p[0:], segmentMagic)
	le.PutUint32(p[8:], s.id)
	le.PutUint32(p[12:], s.generation)
	le.PutUint64(p[16:], s.firstSeq)
	le.PutUint32(p[24:], s.prev)
	le.PutUint32(p[28:], s.prevEnd)
	le.PutUint32(p[4:], headerCRC(p, salt))
	return p
}

func parseSegment(p []byte, salt uint64) (s segmentInfo, ok bool) {
	if len(p) < segmentHeader || le.Uint32(p) != segmentMagic ||
		headerCRC(p[:segmentHeader], salt) != le.Uint32(p[4:]) {
		return s, false
	}
	return segmentInfo{id: le.Uint32(p[8:]), generation: le.Uint32(p[12:]), firstSeq: le.Uint64(p[16:]),
		prev: le.Uint32(p[24:]), prevEnd: le.Uint32(p[28:])}, true
}

func segmentName(dir string, id uint32) string {
	return path.Join(dir, segmentDir, fmt.Sprintf("%08x", id))
}

func segmentID(name string) (uint32, bool) {
	var id uint32
	n, err := fmt.Sscanf(name, "%08x", &id)
	return id, n == 1 && err == nil && fmt.Sprintf("%08x", id) == name && id > 0
}

// handles keeps segment files open, up to maxHandles that nobody uses.
type handles struct {
	fs  vfs.FS
	dir string

	mu   sync.Mutex // guards open and the handles' users
	open map[uint32]*handle
}

type handle struct {
	vfs.File
	users int
	gone  bool // close with the last user
}

func newHandles(fsys vfs.FS, dir string) *handles {
	return &handles{fs: fsys, dir: dir, open: map[uint32]*handle{}}
}

// get opens a segment; put gives it back.
func (t *handles) get(id uint32) (*handle, error) {
	t.mu.Lock()
	if h := t.open[id]; h != nil {
		h.users++
		t.mu.Unlock()
		return h, nil
	}
	t.mu.Unlock()
	f, err := t.fs.Open(segmentName(t.dir, id))
	if err != nil {
		return nil, block.Wrap(block.Unavailable, err, "a segment of the store can't be opened")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.open[id]; h != nil { // somebody was faster
		f.Close()
		h.users++
		return h, nil
	}
	t.evict()
	h := &handle{File: f, users: 1}
	t.open[id] = h
	return h, nil
}

func (t *handles) put(h *handle) {
	if h == nil { // it could not be opened
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	h.users--
	if h.gone && h.users == 0 {
		h.Close()
	}
}

// evict closes some unused handles when there are too many. The caller holds mu.
func (t *handles) evict() {
	if len(t.open) < maxHandles {
		return
	}
	for id, h := range t.open {
		if h.users == 0 {
			h.Close()
			delete(t.open, id)
			if len(t.open) < maxHandles*3/4 {
				return
			}
		}
	}
}

// drop forgets a segment's handle; the file closes with its last user.
func (t *handles) drop(id uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.open[id]; h != nil {
		delete(t.open, id)
		if h.gone = true; h.users == 0 {
			h.Close()
		}
	}
}

func (t *handles) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.open {
		h.Close()
	}
	clear(t.open)
}
