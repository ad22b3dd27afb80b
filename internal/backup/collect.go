package backup

import (
	"context"
	"encoding/hex"
	"path"
)

// maxLive is how many ids of chunks Collect holds in memory at once, 32 bytes
// each; where there may be more it goes through the pages again.
const maxLive = 1 << 20

// Collected says what Collect did.
type Collected struct {
	Kept, Removed int64 // objects
}

// Collect removes the chunks of a location that no manifest needs, finished or
// not. It is IsBusy while a backup is written there, which may rely on a chunk
// that no manifest names yet; and while it runs, none can begin. Where a
// manifest or a page is damaged it removes nothing more and returns that, since
// nobody knows then what is needed.
func (r *Repository) Collect(ctx context.Context, l Location) (c Collected, err error) {
	release, err := r.alone(l)
	if err != nil {
		return c, err
	}
	defer release()
	pages := map[chunkID]int{}
	for _, dir := range []string{l.manifests(), l.unfinished()} {
		for name, err := range r.store.List(ctx, dir) {
			if err != nil {
				return c, err
			}
			m, err := r.readManifest(ctx, name)
			if err != nil {
				return c, err
			}
			for i, id := range m.pages {
				if !id.zero() {
					pages[id] = m.idsIn(i)
				}
			}
		}
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
