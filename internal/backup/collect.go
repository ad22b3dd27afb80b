package backup

import (
	"context"
	"encoding/hex"
	"path"

	"kvol/internal/block"
)

// maxLive is how many ids of chunks Collect holds in memory at once, 32 bytes
// each; where there may be more it goes through the pages again.
const maxLive = 1 << 20

// Collected says what Collect did.
type Collected struct {
	Kept, Removed int64    // objects
	Damaged       []Damage // if there are any, nothing was removed
}

// Damage is a finished backup that can't be restored, since its manifest or one
// of its pages is damaged or missing. Cause has a sentence that names the
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
	if err := r.begun(ctx, l, pages); err != nil {
		return c, err
	}
	if len(c.Damaged) > 0 {
		return c, c.Damaged[0].Cause
	}
	rounds := 1
	for rounds < 256 && len(pages)*pageIDs/rounds > maxLive {
		rounds *= 2
	}
	for round := range rounds {
		if err := r.collect(ctx, l, pages, round*256/rounds, (round+1)*256/rounds, &c); err != nil {
			return c, err
		}
	}
	return c, nil
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
// and can't rely on what is collected now.
func (r *Repository) begun(ctx context.Context, l Location, pages map[chunkID]int) error {
	var broken []string
	for name, err := range r.store.List(ctx, l.unfinished()) {
		if err != nil {
			return err
		}
		m, err := r.readManifest(ctx, name)
		if err == nil {
			err = r.checkPages(ctx, l, m, pages, map[chunkID]error{})
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

// collect is Collect for the ids whose first byte is from..to-1.
func (r *Repository) collect(ctx context.Context, l Location, pages map[chunkID]int, from, to int,
	c *Collected) error {
	live := map[chunkID]bool{}
	want := func(id chunkID) {
		if int(id[0]) >= from && int(id[0]) < to && !id.zero() {
			live[id] = true
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
		var dead []string
		for name, err := range r.store.List(ctx, l.chunks(byte(first))) {
			if err != nil {
				return err
			}
			p, err := hex.DecodeString(path.Base(name))
			if err != nil || len(p) != len(chunkID{}) {
				continue // nothing of ours
			}
			if live[chunkID(p)] {
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
	}
	return nil
}
