package keystore

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

const (
	// placeEvery is how often the catalog is asked for keys to be placed or
	// removed; retryAfter is the pause while the key manager refuses.
	placeEvery = 500 * time.Millisecond
	retryAfter = 10 * time.Second
	// placeAtOnce is how many keys are read from the catalog at a time.
	placeAtOnce = 100
)

// Placer keeps the keys of volumes in an external key manager too, where hosts
// look for them. What is to be done follows from the catalog alone: a volume's
// key without a name there is placed, a deleted one is removed. Every step may
// be repeated.
type Placer struct {
	catalog *catalog.Catalog
	sealer  *Sealer
	remote  *Barbican
	log     *slog.Logger

	mu    sync.Mutex // guards known
	known map[block.SecretID]block.SecretID
}

// NewPlacer makes a Placer, which does nothing before Run.
func NewPlacer(c *catalog.Catalog, s *Sealer, b *Barbican, log *slog.Logger) *Placer {
	return &Placer{catalog: c, sealer: s, remote: b, log: log, known: map[block.SecretID]block.SecretID{}}
}

// Name is how the external key manager names a key; false until it has it.
func (p *Placer) Name(id block.SecretID) (block.SecretID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name, ok := p.known[id]
	return name, ok
}

func (p *Placer) know(id, name block.SecretID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if name == "" {
		delete(p.known, id)
		return
	}
	p.known[id] = name
}

// Run places and removes keys until ctx ends.
func (p *Placer) Run(ctx context.Context) error {
	if err := p.load(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	var said string
	for {
		wait, now := placeEvery, ""
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			wait, now = retryAfter, err.Error()
			if now != said {
				p.log.Warn("keys can't be placed in the key manager", "err", err)
			}
		}
		said = now
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// load learns which keys the key manager has.
func (p *Placer) load(ctx context.Context) error {
	return p.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.PlacedKeys()
		for _, k := range all {
			p.know(k.ID, k.PlacedAs)
		}
		return err
	})
}

// round does what there is to do. One project's refusal does not hold up the
// others; the first error is returned.
func (p *Placer) round(ctx context.Context) (first error) {
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	var gone []catalog.PlacedKey
	err := p.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		gone, err = tx.KeyRemovals(placeAtOnce)
		return err
	})
	note(err)
	for _, k := range gone {
		note(p.remove(ctx, k))
	}
	for after := block.SecretID(""); err == nil; {
		var list []block.Secret
		err = p.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			list, err = tx.UnplacedKeys(after, placeAtOnce)
			return err
		})
		note(err)
		for _, s := range list {
			note(p.place(ctx, s))
		}
		if len(list) < placeAtOnce {
			break
		}
		after = list[len(list)-1].ID
	}
	return first
}

// nameOf names a key in the key manager, so that one is found again whose id
// there was lost.
func nameOf(id block.SecretID, project block.ProjectID) string {
	return "kvol key " + string(id) + " of " + string(project)
}

// place puts one key into the key manager, and reads it back.
func (p *Placer) place(ctx context.Context, s block.Secret) error {
	key, err := p.sealer.payload(s)
	if err != nil {
		return err
	}
	err = p.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.BeginPlacing(s.ID) })
	if block.Is(err, block.NotFound) {
		return nil // it was deleted meanwhile
	}
	if err != nil {
		return err
	}
	k := catalog.PlacedKey{ID: s.ID, Project: s.Project}
	if k.PlacedAs, err = p.remote.Put(ctx, s.Project, nameOf(s.ID, s.Project), key); err != nil {
		return err
	}
	kept, err := p.remote.Payload(ctx, s.Project, k.PlacedAs)
	if err != nil {
		return err
	}
	if string(kept) != string(key) {
		return block.Errorf(block.Corrupt, "The key manager has another key as %s than it was given.", k.PlacedAs)
	}
	if err := p.remote.Permit(ctx, s.Project, k.PlacedAs, s.User); err != nil {
		return err
	}
	err = p.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.KeyPlaced(k) })
	if block.Is(err, block.NotFound) {
		return nil // it was deleted meanwhile: its removal, which was noted then, finds it by its name
	}
	if err == nil {
		p.know(k.ID, k.PlacedAs)
	}
	return err
}

// remove deletes one key from the key manager, by its id and whatever else has
// its name.
func (p *Placer) remove(ctx context.Context, k catalog.PlacedKey) error {
	ids, err := p.remote.Find(ctx, k.Project, nameOf(k.ID, k.Project))
	if err != nil {
		return err
	}
	if k.PlacedAs != "" {
		ids = append(ids, k.PlacedAs)
	}
	for _, id := range ids {
		if err := p.remote.Remove(ctx, k.Project, id); err != nil {
			return err
		}
		if name, ok := p.Name(k.ID); ok && name == id {
			p.know(k.ID, "")
		}
	}
	return p.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.KeyRemoved(k) })
}
