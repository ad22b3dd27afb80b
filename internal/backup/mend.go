package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"path"

	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
)

// putAway moves a chunk of size bytes, which could not be read for a cause, out of
// the way if it is damaged, so that it is missing: the next backup that has its
// content writes it anew, and a collection finds which backups need it. An operator
// may still look at it. It returns the cause, with what went wrong here if anything
// did. Other zones' locations are left alone.
func (r *Repository) putAway(ctx context.Context, cause error, l Location, context string, id chunkID, size int) error {
	if !block.Is(cause, block.Corrupt) || !l.Of(r.zone) {
		return cause
	}
	r.mending.Lock()
	defer r.mending.Unlock()
	name := l.chunk(id)
	object, err := r.store.Get(ctx, name, int64(chunkHeader+size))
	switch {
	case block.Is(err, block.NotFound):
		return cause
	case block.Is(err, block.Corrupt): // too long to be anything of ours
		object = nil
	case err != nil:
		return errors.Join(cause, err)
	default:
		if _, err := r.unpackChecked(object, context, id, size); err == nil {
			return cause // a backup has mended it meanwhile
		}
	}
	err = r.store.Put(ctx, l.damaged()+"/"+path.Base(name), object)
	if err == nil {
		err = r.store.Delete(ctx, name)
	}
	return errors.Join(cause, err)
}

// CheckBase is Corrupt where it is known that what a manifest needs is missing: a
// page of it can't be read, though a chunk was put away and is not there again, or
// one of those chunks is in it. It looks no further, since it would have to ask for
// every chunk of the volume each time that one of them changed: what nobody has met
// yet, collections find, for all backups at once.
func (r *Repository) CheckBase(ctx context.Context, l Location, m *Manifest) error {
	lost := map[chunkID]bool{}
	for name, err := range r.store.List(ctx, l.damaged()) {
		if err != nil {
			return err
		}
		p, err := hex.DecodeString(path.Base(name))
		if err != nil || len(p) != len(chunkID{}) {
			continue // a manifest
		}
		has, err := r.store.Has(ctx, l.chunk(chunkID(p)))
		if err != nil {
			return err
		}
		if !has {
			lost[chunkID(p)] = true
		}
	}
	if len(lost) == 0 {
		return nil
	}
	for i, page := range m.pages {
		ids, err := r.page(ctx, l, page, m.idsIn(i))
		if err != nil {
			return err
		}
		for _, id := range ids {
			if lost[id] {
				return lacking(l.chunk(id))
			}
		}
	}
	return nil
}

// checkWhole is Corrupt if a page of a manifest can't be read, or one of its chunks
// is not there.
func (r *Repository) checkWhole(ctx context.Context, l Location, m *Manifest) error {
	for i, page := range m.pages {
		ids, err := r.page(ctx, l, page, m.idsIn(i))
		if err != nil {
			return err
		}
		group, within := errgroup.WithContext(ctx)
		group.SetLimit(r.uploads)
		for _, id := range ids {
			if !id.zero() {
				group.Go(func() error { return r.checkThere(within, l, id) })
			}
		}
		if err := group.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// checkThere is Corrupt if a chunk is missing.
func (r *Repository) checkThere(ctx context.Context, l Location, id chunkID) error {
	has, err := r.store.Has(ctx, l.chunk(id))
	if err == nil && !has {
		err = lacking(l.chunk(id))
	}
	return err
}
