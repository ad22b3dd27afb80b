package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"path"

	"kvol/internal/block"
)

// maxLive is how many ids of chunks Collect holds in memory at once, 32 bytes
// each; where there may be more it goes through the pages again.
const maxLive = 1 << 20

// Collected says what Collect did.
type Collected struct {
	Kept, Removed int64    // objects
	Damaged       []Damage // in a manifest or a page; if there are any, nothing was removed
	Lacking       []Damage // chunks of data, which hold up nothing
}

// Damage is a finished backup that can't be restored, since its manifest, one of
// its pages or a chunk is damaged or missing. Cause has a sentence that names the
// object.
type Damage struct {
	Backup block.BackupID
	Cause  error `json:"-"`
}

// Collect removes the chunks of a location that no manifest needs, finished or
// not. It is IsBusy while a backup is written there, which may rely on a chunk
// that no manifest names yet; and while it runs, none can begin. Where a
// manifest or a page is damaged nobody knows what is needed: it looks for all
// that are, removes nothing, and is Corrupt. It goes on when their backups are
// removed.
func (r *Repository) Collect(ctx context.Context, l Location) (c Collected, err error) {
	release, err := r.alone(l)
	if err != nil {
		return c, err
	}
	defer release()
	pages := map[chunkID]int{}
	if err := r.finished(ctx, l, pages, &c); err != nil {
		return c, err
	}
	if err := r.begun(ctx, l, pages, map[chunkID]error{}); err != nil {
		return c, err
	}
	if len(c.Damaged) > 0 {
		return c, c.Damaged[0].Cause
	}
	rounds := 1
	for rounds < 256 && len(pages)*pageIDs/rounds > maxLive {
		rounds *= 2
	}
	bad := map[chunkID]error{} // pages of which chunks are missing
	for round := range rounds {
		if err := r.collect(ctx, l, pages, round*256/rounds, (round+1)*256/rounds, bad, &c); err != nil {
			return c, err
		}
	}
	if len(bad) == 0 {
		return c, nil
	}
	return c, errors.Join(r.blame(ctx, l, bad, &c), r.begun(ctx, l, pages, bad))
}

// finished notes the pages of finished backups, all of which it reads once: a
// damage is to be found before anything is removed.
func (r *Repository) finished(ctx context.Context, l Location, pages map[chunkID]int, c *Collected) error {
	bad := map[chunkID]error{}
	for name, err := range r.store.List(ctx, l.manifests()) {
		if err != nil {
			return err
		}
		id, ok := block.ParseID(path.Base(name))
		if !ok {
			continue // nothing of ours
		}
		m, err := r.readManifest(ctx, name)
		if err == nil {
			err = r.checkPages(ctx, l, m, pages, bad)
		}
		if block.Is(err, block.Corrupt) {
			c.Damaged = append(c.Damaged, Damage{Backup: block.BackupID(id), Cause: err})
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkPages notes a manifest's pages, and returns the first damage of one.
// What was read for a manifest before is known to be good or bad.
func (r *Repository) checkPages(ctx context.Context, l Location, m *Manifest, good map[chunkID]int,
	bad map[chunkID]error) error {
	for i, id := range m.pages {
		if err := bad[id]; err != nil {
			return err
		}
		if _, known := good[id]; known || id.zero() {
			continue
		}
		_, err := r.page(ctx, l, id, m.idsIn(i))
		if block.Is(err, block.Corrupt) {
			bad[id] = err
		}
		if err != nil {
			return err
		}
		good[id] = m.idsIn(i)
	}
	return nil
}

// begun notes the pages of unfinished backups. A beginning that is damaged is
// removed, and not only passed over: its backup is then written from its start,
// and can't rely on what is collected now. So is one that has pages known as bad.
func (r *Repository) begun(ctx context.Context, l Location, pages map[chunkID]int, bad map[chunkID]error) error {
	var broken []string
	for name, err := range r.store.List(ctx, l.unfinished()) {
		if err != nil {
			return err
		}
		m, err := r.readManifest(ctx, name)
		if err == nil {
			err = r.checkPages(ctx, l, m, pages, bad)
		}
		if block.Is(err, block.Corrupt) {
			broken = append(broken, name)
			continue
		}
		if err != nil {
			return err
		}
	}
	for _, name := range broken {
		if err := r.store.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// blame notes the finished backups that have pages which are bad.
func (r *Repository) blame(ctx context.Context, l Location, bad map[chunkID]error, c *Collected) error {
	for name, err := range r.store.List(ctx, l.manifests()) {
		if err != nil {
			return err
		}
		id, ok := block.ParseID(path.Base(name))
		if !ok {
			continue
		}
		m, err := r.readManifest(ctx, name)
		if block.Is(err, block.NotFound) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return err
		}
		for _, page := range m.pages {
			if err := bad[page]; err != nil {
				c.Lacking = append(c.Lacking, Damage{Backup: block.BackupID(id), Cause: err})
				break
			}
		}
	}
	return nil
}

// collect is Collect for the ids whose first byte is from..to-1. It notes pages that
// need one which is missing.
func (r *Repository) collect(ctx context.Context, l Location, pages map[chunkID]int, from, to int,
	bad map[chunkID]error, c *Collected) error {
	live := map[chunkID]bool{} // whether it was met
	want := func(id chunkID) {
		if int(id[0]) >= from && int(id[0]) < to && !id.zero() {
			live[id] = false
		}
	}
	for id, n := range pages {
		want(id)
		ids, err := r.page(ctx, l, id, n)
		if err != nil {
			return err
		}
		for _, id := range ids {
			want(id)
		}
	}
	for first := from; first < to; first++ {
		if err := r.sweep(ctx, l, byte(first), live, c); err != nil {
			return err
		}
	}
	maps.DeleteFunc(live, func(_ chunkID, met bool) bool { return met })
	return r.missed(ctx, l, pages, live, bad)
}

// sweep removes the chunks that are not live, of those whose ids begin with a byte,
// and notes which of the others it met.
func (r *Repository) sweep(ctx context.Context, l Location, first byte, live map[chunkID]bool, c *Collected) error {
	var dead []string
	for name, err := range r.store.List(ctx, l.chunks(first)) {
		if err != nil {
			return err
		}
		p, err := hex.DecodeString(path.Base(name))
		if err != nil || len(p) != len(chunkID{}) {
			continue // nothing of ours
		}
		if _, ok := live[chunkID(p)]; ok {
			live[chunkID(p)] = true
			c.Kept++
			continue
		}
		dead = append(dead, name)
	}
	for _, name := range dead {
		if err := r.store.Delete(ctx, name); err != nil {
			return err
		}
		c.Removed++
	}
	return nil
}

// missed notes the pages that need chunks which a list did not have. Each is asked
// for once more by its name: a backup is not given up for the list of a service that
// is behind.
func (r *Repository) missed(ctx context.Context, l Location, pages map[chunkID]int, unmet map[chunkID]bool,
	bad map[chunkID]error) error {
	gone := map[chunkID]error{}
	for id := range unmet {
		err := r.checkThere(ctx, l, id)
		if err != nil && !block.Is(err, block.Corrupt) {
			return err
		}
		if err != nil {
			gone[id] = err
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for page, n := range pages {
		ids, err := r.page(ctx, l, page, n)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := gone[id]; err != nil {
				bad[page] = err
				break
			}
		}
	}
	return nil
}
