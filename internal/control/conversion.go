package control

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/job"
)

const (
	// scratchMargin is what conversions leave free of their file system, in bytes, or a
	// twentieth of it where that is less: the catalog may lie there too.
	scratchMargin = int64(1) << 30
	// conversionRest and conversionPatience are how often, and for how long, a
	// conversion asks for room that others have.
	conversionRest     = 2 * time.Second
	conversionPatience = time.Hour
)

// errNoScratch is in what a conversion fails with for which there is no room.
var errNoScratch = errors.New("no room for a conversion")

// conversions share the file system on which images are converted: none goes on
// that might fill it, together with those under way. Other processes' files count
// once they are written. The zero value is ready; it may be used by many goroutines.
type conversions struct {
	mu     sync.Mutex // guards below, and need and putOff of each conversion
	open   map[*conversion]bool
	putOff map[block.JobID]putOff
}

// putOff is what is known of a job that is waiting for room.
type putOff struct {
	since time.Time
	need  int64 // bytes, as far as its last attempt found out
}

// conversion is a directory for the files of one conversion, and the room that is
// kept for them.
type conversion struct {
	s      *Service
	job    block.JobID
	dir    string
	remove func() error
	need   int64 // bytes that its files may have
	putOff bool
}

// beginConversion makes a directory in which a job may write need bytes; see reserve.
func (s *Service) beginConversion(t *job.Task, need int64) (*conversion, error) {
	dir, remove, err := s.scratch()
	if err != nil {
		return nil, err
	}
	c := &conversion{s: s, job: t.Job.ID, dir: dir, remove: remove}
	if err := c.reserve(need); err != nil {
		return nil, errors.Join(err, c.end())
	}
	return c, nil
}

// end gives the room back.
func (c *conversion) end() error {
	err := c.remove()
	all := &c.s.conversions
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.open, c)
	if !c.putOff {
		delete(all.putOff, c.job)
	}
	return err
}

// reserve lets the conversion's files have need bytes in all, or what an attempt
// before asked for if that is more. Where others have the room the job is put off, for
// up to conversionPatience; where it can't be, or not any more, it is NoSpace
// (cinder/image/image_utils.py, check_available_space).
func (c *conversion) reserve(need int64) error {
	all := &c.s.conversions
	all.mu.Lock()
	defer all.mu.Unlock()
	was, waits := all.putOff[c.job]
	need = max(need, was.need)
	space, err := c.s.cfg.Space(c.dir)
	if err != nil {
		return block.Wrap(block.Unavailable, err, "The room for conversions of images is not known.")
	}
	margin := min(scratchMargin, space.Total/20)
	room := space.Free - margin + used(c.dir)
	for other := range all.open {
		if other != c {
			room -= max(0, other.need-used(other.dir))
		}
	}
	if need <= room {
		if all.open == nil {
			all.open = map[*conversion]bool{}
		}
		all.open[c], c.need, c.putOff = true, need, false
		return nil
	}
	now := c.s.now()
	if !waits {
		was.since = now
	}
	if need > space.Total-margin || now.Sub(was.since) >= conversionPatience {
		c.putOff = false // end forgets it
		return block.Wrap(block.NoSpace, errNoScratch, "The image's size exceeded available disk space: "+
			"There is no space to convert it. Requested: %d, available: %d", need, max(0, room))
	}
	all.wait(c.job, putOff{was.since, need}, now)
	c.putOff = true
	return job.Snooze(conversionRest, block.Errorf(block.Unavailable,
		"There is no room to convert the image now. Requested: %d, available: %d", need, max(0, room)))
}

// wait notes that a job waits, and forgets those that don't ask any more.
func (all *conversions) wait(id block.JobID, p putOff, now time.Time) {
	for other, was := range all.putOff {
		if now.Sub(was.since) > 2*conversionPatience {
			delete(all.putOff, other)
		}
	}
	if all.putOff == nil {
		all.putOff = map[block.JobID]putOff{}
	}
	all.putOff[id] = p
}

// used is how much a directory's files take of their file system, in bytes. What goes
// away meanwhile counts as nothing.
func used(dir string) (sum int64) {
	const sector = 512 // in which st_blocks counts
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil {
			sum += blocks(info) * sector
		}
		return nil
	})
	return sum
}

func blocks(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks
	}
	return 0
}

// The most that a file of another format has for what it holds: pieces of so many
// bytes are there as a whole, and tables take a part of the size besides.
const (
	largestPiece = 32 << 20 // of vhdx; vhd has 2 MiB, the others less
	tablePart    = 1 << 12
	fewTables    = 16 << 20
)

// uploadNeed is how much the conversion of a snapshot takes at most, in bytes: a
// raw file with holes, and one of the other format.
func uploadNeed(r driver.Reader) (int64, error) {
	raw, err := dataIn(r, streamChunk)
	if err != nil {
		return 0, err
	}
	other, err := dataIn(r, largestPiece)
	return raw + other + r.Size()/tablePart + fewTables, err
}

// dataIn is how many bytes the pieces of a snapshot have in which there may be data.
func dataIn(r driver.Reader, piece int64) (sum int64, err error) {
	extents, ok := r.(driver.ExtentReader)
	if !ok {
		return r.Size(), nil
	}
	counted := int64(0) // up to there
	for e, err := range extents.Extents(0, r.Size()) {
		if err != nil {
			return 0, err
		}
		if e.Zero {
			continue
		}
		from := max(counted, e.Off/piece*piece)
		counted = max(counted, (e.Off+e.Len+piece-1)/piece*piece)
		sum += max(0, counted-from)
	}
	return sum, nil
}
