package logstore

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

var be = binary.BigEndian

// Options of a store. Dir is required; zero values of the others mean the
// defaults.
type Options struct {
	FS          vfs.FS           // the system's
	Dir         string           // made if it is not there
	SegmentSize int64            // bytes of a log segment, for a new store; 64 MiB, less where MaxBytes is small
	CacheBytes  int64            // memory that the store may take beside fixed buffers, see memory.go; 256 MiB
	MaxBytes    int64            // of all segments together; what the file system has
	ScrubRate   int64            // bytes of the log read and checked each second, again and again; 0: none
	Healer      Healer           // where damaged blocks come from; nil: reads of them fail
	Known       []Damage         // from before, of which the alarm still stands
	Holder      string           // who opens it, told to whoever finds it locked; may be empty
	Alarm       func(Damage)     // told of each change of what is damaged; it must not call the store
	Log         *slog.Logger     // slog.Default()
	Now         func() time.Time // time.Now

	hooks      *testHooks
	indexEvery int64
	// indexPatience is how long writing the index may fail.
	indexPatience time.Duration
	wait          func(context.Context, time.Duration) error // of the scrubber; sleeps if nil
	sweepBatch    int
	idle          bool // no housekeeping
}

const (
	defaultSegment = 64 << 20
	smallSegment   = 8 << 20 // of a small store
	minSegment     = 32 << 10
	maxSegment     = 1 << 30
	defaultCache   = 256 << 20
)

// Store is an open store. It is a driver.Driver, Differ, Reverter,
// GroupSnapshotter and ChangeCounter.
type Store struct {
	fs      vfs.FS
	dir     string
	slog    *slog.Logger
	now     func() time.Time
	opened  time.Time
	lock    io.Closer
	hooks   *testHooks
	super   *superblock
	unclean bool
	db      *pebble.DB
	log     *appendLog
	pool    *pool
	handles *handles
	cache   *leafCache
	grace   grace
	closing chan struct{} // closed when Close begins or the index gave up
	stop    context.CancelFunc
	tasks   sync.WaitGroup
	keeping chan struct{} // wakes the housekeeper
	serving atomic.Bool   // it is open
	closed  atomic.Bool
	census  census
	// reclaiming lets one census and one compaction run at a time.
	reclaiming turn
	// shifting keeps the sweeper from moving blocks from epoch to epoch while
	// compaction looks for them. It is taken before mu.
	shifting   sync.Mutex
	sweeping   sync.Mutex // one sweeper at a time; taken before shifting
	swept      sweepWork
	sweepBatch int
	idle       bool
	shape      atomic.Uint64 // counts absorptions that began
	fallen     atomic.Int64  // blocks that died
	stuck      standing      // where reclaiming found nothing; under reclaiming
	pace       pace
	cacheBytes int64         // Options.CacheBytes
	memTable   int64         // bytes of one of the index's memory tables
	flushed    chan struct{} // a table of the index was written
	healer     Healer
	told       func(Damage)
	wait       func(context.Context, time.Duration) error
	scrubRate  int64
	damages    damages
	suspects   chan [2][]byte // first and last keys of damaged tables, for the housekeeper
	levels     levels
	scrub      scrubState

	mu         sync.Mutex // order of records; guards all below and the nouns
	volumes    map[block.VolumeID]*volume
	numbers    map[uint64]*volume
	branches   map[uint64]*branch
	aliases    map[uint64]*branch   // absorbed branches; each has an heir
	moving     *moving              // the absorption that goes on
	candidates map[*branch]struct{} // that may be ready to be absorbed
	dirty      map[*branch]struct{} // that have something to sweep
	examining  int                  // absorptions neither begin nor end meanwhile
	emptied    []uint32             // segments of which the last block died
	recent     map[versionID]int    // leaves whose change is noted; how many operands they have
	indexEvery int64                // bytes of log after which the index is flushed
	indexed    int64                // bytes applied since the index was asked to flush
	freed      bool                 // something became unreachable

	usage       map[uint32]*usage // full segments
	filling     filling
	places      *places
	sinceCensus int64 // bytes of log
	sinceLook   int64 // bytes given to the index since its memory was looked at
	behind      bool  // the index has too much in memory

	// Buffers of apply.
	scratch, keyBuf, valueBuf []byte
	patch                     []patch
}

var (
	_ driver.Driver           = (*Store)(nil)
	_ driver.Differ           = (*Store)(nil)
	_ driver.Reverter         = (*Store)(nil)
	_ driver.GroupSnapshotter = (*Store)(nil)
	_ driver.ChangeCounter    = (*Store)(nil)
	_ driver.ManyWriter       = (*device)(nil)
	_ driver.ExtentReader     = (*device)(nil)
	_ driver.ExtentReader     = (*reader)(nil)
)

// Open opens the store in a directory, or makes one. It is Conflict if another
// process has it open, Unsupported if a newer program made it, Corrupt if what
// was durable is gone. After an unclean end it first reads the part of the log
// that the index lacks.
func Open(ctx context.Context, o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, block.Wrap(ioKind(err), err, "the store's directory can't be made")
	}
	lock, err := takeLock(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	err = giveUpEmergency(o.FS, o.Dir, memTable(o.CacheBytes), o.Log)
	if err == nil {
		err = writeHolder(o.FS, o.Dir, o.Holder)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s := &Store{
		fs: o.FS, dir: o.Dir, slog: o.Log, now: o.Now, opened: o.Now(), lock: lock, hooks: o.hooks,
		closing: make(chan struct{}), keeping: make(chan struct{}, 1),
		volumes: map[block.VolumeID]*volume{}, numbers: map[uint64]*volume{}, branches: map[uint64]*branch{},
		aliases: map[uint64]*branch{}, candidates: map[*branch]struct{}{}, dirty: map[*branch]struct{}{},
		recent: map[versionID]int{}, indexEvery: o.indexEvery, cacheBytes: o.CacheBytes, stop: func() {},
		cache:  newLeafCache(memoryShare(o.CacheBytes, leafCacheShare)),
		places: newPlaces(memoryShare(o.CacheBytes, placesShare)), reclaiming: make(turn, 1),
		usage: map[uint32]*usage{}, memTable: memTable(o.CacheBytes), flushed: make(chan struct{}, 1),
		healer: o.Healer, told: o.Alarm, scrubRate: o.ScrubRate, wait: o.wait,
		sweepBatch: o.sweepBatch, idle: o.idle,
		damages:  damages{found: map[damagePlace]Damage{}},
		suspects: make(chan [2][]byte, 64),
	}
	for _, d := range o.Known {
		s.damages.found[d.place()] = d
	}
	if err := s.open(ctx, o); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// segmentFor is the size of segments of a new store: so small that the few
// that have to stay empty are a small part of it.
func segmentFor(maxBytes int64) int64 {
	size := int64(defaultSegment)
	for maxBytes > 0 && size > smallSegment && maxBytes/size < 256 {
		size /= 2
	}
	return size
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil {
		o.FS = vfs.System{}
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = segmentFor(o.MaxBytes)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCache
	}
	if o.indexEvery == 0 {
		o.indexEvery = defaultIndexEvery
	}
	if o.indexPatience == 0 {
		o.indexPatience = indexPatience
	}
	if o.sweepBatch == 0 {
		o.sweepBatch = defaultSweepBatch
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.wait == nil {
		o.wait = sleep
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Dir == "":
		return o, block.Errorf(block.Invalid, "the store has no directory")
	case o.SegmentSize < minSegment || o.SegmentSize > maxSegment || o.SegmentSize%blockSize != 0:
		return o, block.Errorf(block.Invalid, "segments have %d to %d bytes, in steps of %d", minSegment, maxSegment,
			blockSize)
	}
	return o, nil
}

func (s *Store) open(ctx context.Context, o Options) error {
	super, found, err := readSuper(s.fs, s.dir)
	if err != nil {
		return err
	}
	s.handles = newHandles(s.fs, s.dir)
	if s.super = &super; !found {
		s.overwriteInPlace()
		if s.super, err = newSuper(o.SegmentSize); err != nil {
			return err
		}
	}
	if s.super.generation == 0 { // the first one may be in the page cache only, after a kill
		if err := writeSuper(s.fs, s.dir, s.super); err != nil {
			return err
		}
	}
	s.unclean = found && !s.super.clean
	size := int64(s.super.segmentSize)
	s.pool = newPool(s.fs, s.dir, size, o.MaxBytes, s.handles, s.hooks)
	s.pool.reclaim, s.pool.grew, s.pool.gone = s.reclaim, s.wakeHousekeeper, s.forgetSegment
	s.pool.index, s.pool.memTable = s.indexRoom, s.memTable
	if err := s.pool.load(); err != nil {
		return err
	}
	s.log = newLog(s.fs, s.dir, size, s.super.salt, s.handles, s.pool, s.hooks)
	exists := s.super.generation > 0
	s.db, err = openIndex(s.fs, s.dir, exists, o.CacheBytes, s.slog, indexEvents{beforeTable: s.beforeTable,
		flushed: s.indexWrote, damaged: s.suspect, fatal: s.indexFailed,
		writes: &patience{most: o.indexPatience, now: s.now, log: s.slog, closing: s.closing,
			forRoom: func() bool { return s.serving.Load() && !s.closed.Load() }}})
	if err != nil {
		return err
	}
	if err := s.recover(ctx); err != nil {
		return err
	}
	return s.start()
}

// overwriteInPlace tells a file system that copies on write not to, before the
// first file is made. Segments are written once with zeros and then over and
// over: on btrfs each of those writes would move, and the room that was set
// aside would not be there when it is needed. A refusal costs speed and room,
// and is told once, when the store is made.
func (s *Store) overwriteInPlace() {
	f, ok := s.fs.(interface{ NoCopyOnWrite(dir string) error })
	if !ok {
		return
	}
	if err := f.NoCopyOnWrite(s.dir); err != nil {
		s.slog.Warn("the file system copies on write, and won't stop for the store's directory", "err", err)
	}
}

// start begins a new generation of the log and lets the background work run.
func (s *Store) start() error {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.tasks.Go(func() { s.pool.run(ctx) })
	s.tasks.Go(func() { s.syncInBackground(ctx) })
	s.pool.signal()
	if err := s.do(forDeleting, func() error { return s.commit(&header{op: opOpen}, nil, nil, forDeleting) }); err != nil {
		return err
	}
	if err := s.log.flush(); err != nil {
		return err
	}
	s.super.generation, s.super.clean, s.super.version = s.log.now().generation, false, formatVersion
	if err := writeSuper(s.fs, s.dir, s.super); err != nil {
		return err
	}
	s.serving.Store(true)
	if !s.idle {
		s.tasks.Go(func() { s.keepHouse(ctx) })
		s.tasks.Go(func() { s.keepRoom(ctx) })
	}
	if s.scrubRate > 0 {
		s.tasks.Go(func() { s.keepScrubbing(ctx, s.scrubRate) })
	}
	s.wakeHousekeeper()
	return nil
}

// beforeTable keeps the index from getting ahead of the log on the disk. Once
// the store has stopped it waits for the end, since Pebble would try again
// without a pause.
func (s *Store) beforeTable() error {
	if s.hooks.is(skipSyncBeforeIndex) {
		return nil
	}
	err := s.log.flush()
	if err != nil {
		<-s.closing
	}
	return err
}

// indexFailed ends the store when its index can't go on. The log is kept.
func (s *Store) indexFailed(err error) {
	s.log.stop(block.Wrap(block.Unavailable, err, "the store stopped: its index can't be written"))
}

func (s *Store) syncInBackground(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.log.kick:
			_ = s.log.flush() // a failure poisons the log; whoever flushes next is told
		}
	}
}

// do runs f with the store locked, again after waiting where the log needs
// another segment. f must change nothing when it fails.
func (s *Store) do(keep reserve, f func() error) error {
	for {
		if s.closed.Load() {
			return errClosed()
		}
		s.mu.Lock()
		err := f()
		s.mu.Unlock()
		if again, err := s.waitFor(err, keep); !again {
			return err
		}
	}
}

// waitFor waits for what a record lacks and tells whether to try again.
func (s *Store) waitFor(err error, keep reserve) (again bool, _ error) {
	switch err { //nolint:errorlint // never wrapped
	case errNoRoom:
		err = s.pool.wait(keep)
	case errBehind:
		err = s.waitIndex()
	default:
		return false, err
	}
	return err == nil, err
}

// commit appends a record and applies it. The caller holds s.mu.
func (s *Store) commit(h *header, body, data []byte, keep reserve) error {
	if s.tooMuch() {
		return errBehind
	}
	at, err := s.log.append(h, body, data, keep)
	if err != nil {
		return err
	}
	if err := s.apply(h, body, at); err != nil {
		s.indexFailed(err)
		return s.log.failed()
	}
	return nil
}

// change is do and commit of a change that is to survive a power cut.
func (s *Store) change(ctx context.Context, keep reserve, f func() error) error {
	if err := ctx.Err(); err != nil {
		return block.Wrap(block.Unavailable, err, "the request ended")
	}
	if err := s.do(keep, f); err != nil {
		return err
	}
	return s.log.flush()
}

// Close writes the index out and ends the use of the store. It is Conflict
// while a volume or a snapshot is open.
func (s *Store) Close() error {
	s.mu.Lock()
	err := s.inUse()
	again := err == nil && s.closed.Swap(true) // nothing is opened from here on
	s.mu.Unlock()
	if err != nil || again {
		return err
	}
	err = s.log.flush()
	if err == nil {
		err = s.flushIndex()
	}
	s.stopTasks()
	if err == nil {
		s.super.clean = true
		err = writeSuper(s.fs, s.dir, s.super)
	}
	s.release()
	return err
}

// inUse returns a Conflict while a volume or a snapshot is open. The caller holds
// s.mu.
func (s *Store) inUse() error {
	for _, v := range s.volumes {
		if v.open {
			return block.Errorf(block.Conflict, "volume %s is open", v.id)
		}
		for snap := range v.snapshots.all() {
			if snap.readers > 0 {
				return block.Errorf(block.Conflict, "snapshot %s of volume %s is open", snap.name, v.id)
			}
		}
	}
	return nil
}

// flushIndex makes the index durable as it is now. Pebble would try for ever
// where it can't; the end of the log ends the wait.
func (s *Store) flushIndex() error {
	done, err := s.db.AsyncFlush()
	if err != nil {
		return indexError(err)
	}
	select {
	case <-done:
		return s.log.failed()
	case <-s.log.dead:
		return s.log.failed()
	}
}

func (s *Store) stopTasks() {
	s.stop()
	s.tasks.Wait()
}

// release gives everything back; what is in memory only is lost.
func (s *Store) release() {
	s.closed.Store(true)
	if s.log != nil {
		s.log.stop(errClosed())
	}
	close(s.closing)
	s.stopTasks()
	if s.db != nil {
		_ = s.db.Close() // complains about what a failed store has not flushed
	}
	if s.log != nil {
		s.log.close()
	}
	if s.handles != nil {
		s.handles.close()
	}
	_ = s.lock.Close()
}
