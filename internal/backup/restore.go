package backup

import (
	"context"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Order is a restore that is to be done.
type Order struct {
	Location Location
	Backup   block.BackupID
	Root     *Hash         // what the volume's root hash must be; nil for what the manifest says
	To       driver.Device // at least as large as the volume was
	Blank    bool          // To reads as zeros, or as what an attempt before wrote
	Progress func(done int64) error
}

// Restore writes a backup to a device and flushes it. What lies behind the
// volume's size at that time stays as it is. Every object is checked against
// its hash before it is used, and in the end all of them against the root; what
// is missing or wrong is Corrupt, with a sentence that names the object, and is put
// away where the location is the zone's own. It may be repeated after an
// interruption.
func (r *Repository) Restore(ctx context.Context, o Order) (*Manifest, error) {
	m, err := r.Manifest(ctx, o.Location, o.Backup)
	if err != nil {
		return nil, err
	}
	name := o.Location.manifest(o.Backup)
	if o.Root != nil && m.Root != *o.Root {
		return nil, block.Errorf(block.Corrupt, "The backup's object %s is damaged: it describes another content.", name)
	}
	if m.Size > o.To.Size() {
		return nil, block.Errorf(block.Invalid, "The volume has %d bytes, the backup %d.", o.To.Size(), m.Size)
	}
	seen := *m // what is found is put together anew
	seen.pages = make([]chunkID, len(m.pages))
	for i := range m.pages {
		if seen.pages[i], err = r.restorePage(ctx, o, m, i); err != nil {
			return nil, err
		}
		if o.Progress != nil {
			if err := o.Progress(min(m.Size, int64(i+1)*m.pageBytes())); err != nil {
				return nil, err
			}
		}
	}
	if seen.rootOf() != m.Root {
		return nil, block.Errorf(block.Corrupt, "The backup's object %s is damaged: its root hash is another one.", name)
	}
	return m, o.To.Flush()
}

// restorePage writes a page's chunks and returns the page's id, computed from
// those of the contents that were written.
func (r *Repository) restorePage(ctx context.Context, o Order, m *Manifest, i int) (chunkID, error) {
	n, off := m.idsIn(i), int64(i)*m.pageBytes()
	if m.pages[i].zero() {
		return chunkID{}, o.zero(off, min(m.pageBytes(), m.Size-off))
	}
	ids, err := r.page(ctx, o.Location, m.pages[i], n)
	if err != nil {
		return chunkID{}, r.putAway(ctx, err, o.Location, pageContext, m.pages[i], n*32)
	}
	found := make([]byte, n*32)
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(r.uploads)
	for k := 0; k < n; k++ {
		at := off + int64(k)*int64(m.chunk)
		if ids[k].zero() {
			run := k
			for run+1 < n && ids[run+1].zero() {
				run++
			}
			end := min(m.Size, off+int64(run+1)*int64(m.chunk))
			if err := o.zero(at, end-at); err != nil {
				return chunkID{}, firstOf(group.Wait(), err)
			}
			k = run
			continue
		}
		group.Go(func() error {
			length := int(min(int64(m.chunk), m.Size-at))
			content, err := r.chunk(within, o.Location, dataContext, ids[k], length)
			if err != nil {
				return r.putAway(within, err, o.Location, dataContext, ids[k], length)
			}
			id := idOf(dataContext, content)
			copy(found[k*32:], id[:])
			_, err = o.To.WriteAt(content, at)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return chunkID{}, err
	}
	return idOf(pageContext, found), nil
}

func (o Order) zero(off, length int64) error {
	if o.Blank {
		return nil
	}
	return o.To.Zero(off, length)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
