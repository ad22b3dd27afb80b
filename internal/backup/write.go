package backup

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// checkpointBytes is after how many bytes of pages with changes a backup notes
// how far it is: at most so much, or a page if that has more, is read and sent
// again after a kill.
const checkpointBytes = 512 << 20

// Plan is a backup that is to be written.
type Plan struct {
	Location Location
	Backup   block.BackupID
	Parent   block.BackupID // "" for none
	Volume   block.VolumeID
	Created  time.Time
	// Source is the moment that is kept. Each attempt at a backup must be given
	// the same.
	Source driver.Reader
	// Changes yields, in order of offset, all extents in which Source may differ
	// from Base; without a Base, from zeros.
	Changes iter.Seq2[driver.Extent, error]
	Base    *Manifest // finished, of the same location; nil for none
	// Progress, if set, is told how far in the volume everything is dealt with;
	// an error from it ends the backup.
	Progress func(done int64) error
}

// Usable reports whether a manifest can be the base of a backup of size bytes:
// whether both are cut into the same chunks.
func (m *Manifest) Usable(size int64) bool {
	small := min(m.Size, size)
	return m.chunk == chunkFor(size) && (m.Size == size || small%int64(m.chunk) == 0)
}

// Write writes a backup: its chunks first, then their pages, and then the
// manifest, by which it exists. What is in the repository already is not sent
// again. After an interruption it is called anew and goes on from where the
// last checkpoint was; once it has returned, it returns the same again. It is
// IsBusy while chunks are collected, and Invalid for more than MaxSize.
func (r *Repository) Write(ctx context.Context, p Plan) (*Manifest, error) {
	if size := p.Source.Size(); size < 1 || size > MaxSize {
		return nil, block.Errorf(block.Invalid, "A volume of %d bytes can't be backed up: it must have 1 to %d.", size, MaxSize)
	}
	release, err := r.share(p.Location)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := r.Manifest(ctx, p.Location, p.Backup)
	if err == nil {
		return m, r.store.Delete(ctx, p.Location.beginning(p.Backup))
	}
	if !block.Is(err, block.NotFound) {
		return nil, err
	}
	w := &writer{Repository: r, Plan: p, m: &Manifest{
		Backup: p.Backup, Parent: p.Parent, Volume: p.Volume, Size: p.Source.Size(), Created: p.Created.UTC(),
		chunk: chunkFor(p.Source.Size()), unfinished: true,
	}}
	if p.Base != nil && !p.Base.Usable(w.m.Size) {
		return nil, block.Errorf(block.Internal, "the base is cut otherwise")
	}
	if err := w.resume(ctx); err != nil {
		return nil, err
	}
	if err := w.pages(ctx); err != nil {
		return nil, err
	}
	m = w.m
	m.unfinished, m.Root = false, m.rootOf()
	m.Objects = w.objects.Load() + 1
	m.Stored = w.stored.Load()
	if err := w.put(ctx, p.Location.manifest(p.Backup)); err != nil {
		return nil, err
	}
	return m, r.store.Delete(ctx, p.Location.beginning(p.Backup))
}

// writer is one attempt at a backup.
type writer struct {
	*Repository
	Plan
	m               *Manifest
	objects, stored atomic.Int64
}

// resume takes over what an attempt before had finished. What can't be read is
// done again.
func (w *writer) resume(ctx context.Context) error {
	old, err := w.readManifest(ctx, w.Location.beginning(w.Backup))
	if block.Is(err, block.NotFound) || block.Is(err, block.Corrupt) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.unfinished && old.Backup == w.Backup && old.Size == w.m.Size && old.chunk == w.m.chunk {
		w.m.pages = old.pages
		w.objects.Store(old.Objects)
		w.stored.Store(old.Stored)
	}
	return nil
}

// put writes the manifest as it is now, unless it could not be read again.
func (w *writer) put(ctx context.Context, name string) error {
	p, err := w.m.encode()
	if err != nil {
		return err
	}
	if _, err := decodeManifest(p); err != nil {
		return block.Wrap(block.Internal, err, "a manifest was made that can't be read")
	}
	return w.store.Put(ctx, name, p)
}

// pages goes through the volume page by page.
func (w *writer) pages(ctx context.Context) error {
	next, stop := iter.Pull2(w.Changes)
	defer stop()
	c := &changes{next: next}
	written, checkpoint := int64(0), max(1, checkpointBytes/w.m.pageBytes())
	for i := range w.m.pageCount() {
		if err := ctx.Err(); err != nil {
			return err
		}
		touched, err := c.within(int64(i)*w.m.pageBytes(), w.m.idsIn(i), w.m.chunk)
		if err != nil {
			return err
		}
		if i < len(w.m.pages) {
			continue // an attempt before did it
		}
		id, changed, err := w.page(ctx, i, touched)
		if err != nil {
			return err
		}
		w.m.pages = append(w.m.pages, id)
		if changed {
			written++
		}
		if changed && written%checkpoint == 0 {
			w.m.Objects, w.m.Stored = w.objects.Load(), w.stored.Load()
			if err := w.put(ctx, w.Location.beginning(w.Backup)); err != nil {
				return err
			}
		}
		if w.Progress != nil {
			if err := w.Progress(min(w.m.Size, int64(i+1)*w.m.pageBytes())); err != nil {
				return err
			}
		}
	}
	return nil
}

// page makes page i: the base's but for the chunks that were touched.
func (w *writer) page(ctx context.Context, i int, touched []int) (id chunkID, changed bool, err error) {
	n, had := w.m.idsIn(i), 0
	var base chunkID
	if w.Base != nil && i < len(w.Base.pages) {
		base, had = w.Base.pages[i], w.Base.idsIn(i)
	}
	if len(touched) == 0 && (base.zero() || had == n) {
		return base, false, nil
	}
	ids, err := w.Repository.page(ctx, w.Location, base, had)
	if err != nil {
		return id, false, err
	}
	ids = append(ids, make([]chunkID, max(0, n-had))...)[:n]
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(w.uploads)
	for _, k := range touched {
		group.Go(func() (err error) {
			off := int64(i)*w.m.pageBytes() + int64(k)*int64(w.m.chunk)
			ids[k], err = w.chunk(within, off, int(min(int64(w.m.chunk), w.m.Size-off)))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return id, false, err
	}
	content := make([]byte, 0, n*32)
	for k := range ids {
		content = append(content, ids[k][:]...)
	}
	id, err = w.keep(ctx, pageContext, content)
	return id, true, err
}

func (w *writer) chunk(ctx context.Context, off int64, size int) (chunkID, error) {
	content := make([]byte, size)
	if _, err := w.Source.ReadAt(content, off); err != nil {
		return chunkID{}, err
	}
	return w.keep(ctx, dataContext, content)
}

// keep stores a content unless it is there already, or nothing but zeros.
func (w *writer) keep(ctx context.Context, context string, content []byte) (chunkID, error) {
	if driver.IsZero(content) {
		return chunkID{}, nil
	}
	id := idOf(context, content)
	name := w.Location.chunk(id)
	if has, err := w.store.Has(ctx, name); has || err != nil {
		return id, err
	}
	object := w.pack(content)
	if err := w.store.Put(ctx, name, object); err != nil {
		return id, err
	}
	w.objects.Add(1)
	w.stored.Add(int64(len(object)))
	return id, nil
}

// changes reads extents page by page.
type changes struct {
	next func() (driver.Extent, error, bool)
	open driver.Extent // what is left of the last one
}

// within lists which of n chunks from off on are touched, each once, in order.
func (c *changes) within(off int64, n, size int) (touched []int, err error) {
	end := off + int64(n)*int64(size)
	for {
		if c.open.Len <= 0 {
			e, err, ok := c.next()
			if !ok || err != nil {
				return touched, err
			}
			c.open = e
		}
		if c.open.Off >= end {
			return touched, nil
		}
		first := int(max(0, c.open.Off-off) / int64(size))
		last := int((min(c.open.End(), end) - 1 - off) / int64(size))
		if len(touched) > 0 {
			first = max(first, touched[len(touched)-1]+1)
		}
		for k := first; k <= last; k++ {
			touched = append(touched, k)
		}
		if c.open.End() > end {
			c.open = driver.Extent{Off: end, Len: c.open.End() - end}
			return touched, nil
		}
		c.open = driver.Extent{}
	}
}
