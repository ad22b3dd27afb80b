package logstore

import (
	"errors"
	"sync"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// position is a place in the log: where the record with a sequence number
// lies or will lie.
type position struct {
	segment    uint32 // 0 before the first segment
	off        int64
	seq        uint64
	generation uint32
}

// appendLog is the end of the log. Records are appended one at a time, in the
// order of their sequence; flushes of many callers share one sync.
type appendLog struct {
	fs      vfs.FS
	dir     string
	size    int64 // of a segment
	salt    uint64
	handles *handles
	pool    *pool
	hooks   *testHooks

	mu        sync.Mutex // guards all below
	end       position
	file      *handle       // of end.segment
	unsynced  []*handle     // full segments that are not known to be on the disk, in order
	synced    uint64        // records below it survive a power cut
	syncing   bool          // somebody is at it
	idle      *sync.Cond    // on mu: syncing became false
	poison    error         // a sync failed: nothing is acknowledged any more
	dead      chan struct{} // closed when poison is set
	buf, page []byte        // of what is written
	sinceSync int64         // bytes appended since the last sync began
	kick      chan struct{} // asks for a sync in the background
}

const (
	smallRecord   = 64 << 10 // bytes up to which header and data go in one write
	backgroundRun = 32 << 20 // bytes after which a sync is started unasked
)

func newLog(fsys vfs.FS, dir string, size int64, salt uint64, h *handles, p *pool, hooks *testHooks) *appendLog {
	l := &appendLog{fs: fsys, dir: dir, size: size, salt: salt, handles: h, pool: p, hooks: hooks,
		kick: make(chan struct{}, 1), dead: make(chan struct{})}
	l.idle = sync.NewCond(&l.mu)
	return l
}

// ioKind classifies an error of the file system.
func ioKind(err error) block.Kind {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return block.NoSpace
	}
	return block.Unavailable
}

// errNoRoom says that the log needs another segment and the pool has none now.
var errNoRoom = errors.New("no segment is ready")

// append adds a record. It fills in h's sequence and generation and returns
// where the record lies. It fails with errNoRoom where the caller has to wait
// for the pool; a failed write leaves the log's end where it was.
func (l *appendLog) append(h *header, body, data []byte, keep reserve) (position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.body, h.data = uint32(len(body)), uint32(len(data))
	if err := l.prepare(h.size(), keep); err != nil {
		return position{}, err
	}
	h.seq, h.generation = l.end.seq, l.end.generation
	h.notSynced(l.synced)
	at := l.end
	if err := l.write(h, body, data); err != nil {
		return position{}, block.Wrap(ioKind(err), err, "the store's log can't be written")
	}
	l.advance(at.after(h))
	return at, nil
}

// appendMany is append of several records in one write, as many of the first as
// the segment has room for; at least one. They follow each other from where it
// returns. They are records as others are: what a crash leaves of them is the
// first few that are whole.
func (l *appendLog) appendMany(records []record, keep reserve) (at position, n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.prepare(records[0].size(), keep); err != nil {
		return position{}, 0, err
	}
	l.buf = l.buf[:0]
	end := l.end
	for n < len(records) && end.off+records[n].size() <= l.size {
		r := &records[n]
		r.seq, r.generation = end.seq, end.generation
		r.notSynced(l.synced)
		start := len(l.buf)
		l.buf = append(append(l.buf, make([]byte, headerSize)...), r.crcs...)
		putHeader(l.buf[start:], &r.header, l.salt)
		l.buf = append(l.buf, r.bytes...)
		if end = end.after(&r.header); l.hooks.is(sameSequence) {
			end.seq = l.end.seq
		}
		n++
	}
	at = l.end
	l.buf = l.padded(l.buf, at.off)
	if _, err := l.file.WriteAt(l.buf, at.off); err != nil {
		return position{}, 0, block.Wrap(ioKind(err), err, "the store's log can't be written")
	}
	l.advance(end)
	return at, n, nil
}

// prepare sees to it that a record of n bytes fits the present segment. The
// caller holds mu.
func (l *appendLog) prepare(n int64, keep reserve) error {
	if l.poison != nil {
		return l.poison
	}
	if !l.roomFor(n, keep) {
		return errNoRoom
	}
	if l.file == nil || l.end.off+n > l.size {
		return l.roll()
	}
	return nil
}

// advance notes that the log reaches to an end in the present segment. The
// caller holds mu.
func (l *appendLog) advance(end position) {
	l.sinceSync += end.off - l.end.off
	l.end = end
	if l.sinceSync >= backgroundRun {
		l.kickSync()
	}
}

// roomFor reports whether a record may be appended so that the reserve stays.
// Moving may fill the present segment but for the part that deleting needs.
// The caller holds mu.
func (l *appendLog) roomFor(n int64, keep reserve) bool {
	if keep == forMoving && l.file != nil && l.end.off+n <= l.size-l.size/8 {
		return true
	}
	return l.pool.hasNow(keep)
}

// write puts a record at the log's end. Whole pages of much data go as they
// are; what shares a page with something else goes with that page.
func (l *appendLog) write(h *header, body, data []byte) error {
	l.buf = append(l.buf[:0], make([]byte, headerSize)...)
	l.buf = append(l.buf, body...)
	putHeader(l.buf, h, l.salt)
	at := l.end.off + h.dataOff()
	if len(data) <= smallRecord {
		l.buf = l.padded(append(l.buf, data...), l.end.off)
	} else {
		front := int(-at & (pageSize - 1))
		back := len(data) - (len(data)-front)%pageSize
		if _, err := l.file.WriteAt(data[front:back], at+int64(front)); err != nil {
			return err
		}
		if back < len(data) {
			last := at + int64(back)
			l.page = l.padded(append(l.page[:0], data[back:]...), last)
			if _, err := l.file.WriteAt(l.page, last); err != nil {
				return err
			}
		}
		l.buf = append(l.buf, data[:front]...)
	}
	_, err := l.file.WriteAt(l.buf, l.end.off)
	return err
}

// pageSize is in what units the kernel keeps files in memory, or a multiple.
const pageSize = 4096

// padded adds zeros to what is written at the log's end, up to the end of its
// last page if that was not touched before. So the kernel need not read it from
// the disk first: the old bytes of a segment that is used again are in memory
// only where the store is small. What follows overwrites the zeros.
func (l *appendLog) padded(p []byte, at int64) []byte {
	end := at + int64(len(p))
	if begun := -at & (pageSize - 1); int64(len(p)) <= begun || l.hooks.is(skipPadding) {
		return p // it stays within the page of what is before it
	}
	return append(p, make([]byte, -end&(pageSize-1))...)
}

// roll goes on in the next ready segment. The caller holds mu.
func (l *appendLog) roll() error {
	id, ok := l.pool.take()
	if !ok {
		return errNoRoom
	}
	f, err := l.handles.get(id)
	if err != nil {
		l.pool.giveBack(id)
		return err
	}
	info := segmentInfo{id: id, generation: l.end.generation, firstSeq: l.end.seq,
		prev: l.end.segment, prevEnd: uint32(l.end.off)}
	if _, err := f.WriteAt(l.padded(info.encode(l.salt), 0), 0); err != nil {
		l.handles.put(f)
		l.pool.giveBack(id)
		return block.Wrap(ioKind(err), err, "the store's log can't be written")
	}
	if l.file != nil {
		l.unsynced = append(l.unsynced, l.file)
	}
	l.file, l.end.segment, l.end.off = f, id, segmentHeader
	l.kickSync()
	return nil
}

func (l *appendLog) kickSync() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// flush returns once all records appended before the call survive a power cut.
// Callers that come while a sync is under way share the next one.
func (l *appendLog) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	target := l.end.seq
	for l.poison == nil && l.synced < target {
		if l.syncing {
			l.idle.Wait()
			continue
		}
		l.sync()
	}
	return l.poison
}

// sync syncs what was appended so far, older segments first, since a newer
// record counts for nothing without the older. The caller holds mu, which is
// let go meanwhile.
func (l *appendLog) sync() {
	old, file, goal := l.unsynced, l.file, l.end.seq
	l.unsynced, l.syncing, l.sinceSync = nil, true, 0
	l.mu.Unlock()
	var err error
	for _, f := range old {
		if err == nil && !l.hooks.is(skipOldSegmentSync) {
			err = f.Sync()
		}
		l.handles.put(f)
	}
	if err == nil && file != nil && !l.hooks.is(skipLogSync) {
		err = file.Sync()
	}
	l.mu.Lock()
	l.syncing = false
	if err == nil {
		l.synced = goal
	} else {
		l.poisonWith(block.Wrap(block.Unavailable, err, "the store stopped: its log can't be synced"))
	}
	l.idle.Broadcast()
}

// failed returns why the store stopped, or nil.
func (l *appendLog) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.poison
}

// stop makes the log refuse everything from now on.
func (l *appendLog) stop(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.poisonWith(cause)
}

// poisonWith notes why the log stopped, the first time. The caller holds mu.
func (l *appendLog) poisonWith(cause error) {
	if l.poison == nil {
		l.poison = cause
		close(l.dead)
		l.pool.fail(cause)
	}
}

// now returns the log's end.
func (l *appendLog) now() position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end
}

func (l *appendLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range append(l.unsynced, l.file) {
		if f != nil {
			l.handles.put(f)
		}
	}
	l.unsynced, l.file = nil, nil
}
