package replication

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// The defaults of ReceiverConfig, and how much is received before the target
// makes sure that it would not have to be sent again, in bytes.
const (
	defaultAfterDelete = 24 * time.Hour
	defaultHoldClean   = 7 * 24 * time.Hour
	defaultKeepEvery   = time.Minute
	defaultPatience    = time.Minute
	defaultMarkEvery   = 64 << 20
)

// Receiver keeps the replicas of one zone. Its methods may be called at once
// from many goroutines. There must be one Receiver per catalog at a time.
type Receiver struct {
	cfg       ReceiverConfig
	markEvery int64 // bytes
	recall    *recall
	broken    broke

	mu     sync.Mutex // guards claims and errors
	claims map[linkKey]*claim
	errors map[linkKey]string // of the last stream that failed
}

// broke switches rules off, for tests that show what the rules are for.
type broke struct{ pendingStep, rootCheck, epochCheck bool }

// linkKey names a link at the target.
type linkKey struct {
	zone       block.Zone
	volume     block.VolumeID
	protection int64
}

// claim is the right to change a replica, held by one stream at a time.
type claim struct {
	cancel func() // asks the holder to let go
	done   chan struct{}
}

// NewReceiver makes a Receiver. Streams can be served at once; Run tidies up
// after them.
func NewReceiver(cfg ReceiverConfig) *Receiver {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.AfterDelete == 0 {
		cfg.AfterDelete = defaultAfterDelete
	}
	if cfg.HoldClean == 0 {
		cfg.HoldClean = defaultHoldClean
	}
	if cfg.KeepEvery == 0 {
		cfg.KeepEvery = defaultKeepEvery
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	return &Receiver{cfg: cfg, markEvery: defaultMarkEvery, recall: newRecall(), claims: map[linkKey]*claim{},
		errors: map[linkKey]string{}}
}

// Target returns the Receiver's end for one volume of zone from, for a source
// in the same process. cancel is called, at most once and by another goroutine,
// when a newer Target wants the same volume; it must lead to Close.
func (r *Receiver) Target(from block.Zone, cancel func()) Target {
	return &inbound{receiver: r, from: from, cancel: cancel}
}

// claim waits until nobody else changes a replica. A newer stream wins over an
// older one, whose peer may be long dead.
func (r *Receiver) claim(ctx context.Context, k linkKey, cancel func()) (release func(), err error) {
	for {
		r.mu.Lock()
		held := r.claims[k]
		if held == nil {
			r.mu.Unlock()
			if release, ok := r.tryClaim(k, cancel); ok {
				return release, nil
			}
			continue
		}
		r.mu.Unlock()
		held.cancel()
		select {
		case <-held.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Claim keeps streams and tidying off a replica until release is called; ok is
// false while one of them works on it.
func (r *Receiver) Claim(rep block.Replica) (release func(), ok bool) {
	return r.tryClaim(linkKey{rep.SourceZone, rep.Source, rep.Protection}, func() {})
}

// tryClaim claims a replica that nobody changes.
func (r *Receiver) tryClaim(k linkKey, cancel func()) (release func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claims[k] != nil {
		return nil, false
	}
	c := &claim{cancel: sync.OnceFunc(cancel), done: make(chan struct{})}
	r.claims[k] = c
	return func() {
		r.mu.Lock()
		delete(r.claims, k)
		r.mu.Unlock()
		close(c.done)
	}, true
}

func (r *Receiver) noteError(k linkKey, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.errors, k)
	} else {
		r.errors[k] = err.Error()
	}
}

// protection returns the policy under which zone from may send to this one.
func (r *Receiver) protection(from block.Zone, seq int64) (block.Protection, error) {
	for _, p := range r.cfg.Protections() {
		if p.Seq == seq && p.Sender() == from && p.Destination == r.cfg.Zone && p.Enabled {
			return p, nil
		}
	}
	return block.Protection{}, block.Errorf(block.Forbidden,
		"zone %s does not take volumes of zone %s under protection %d", r.cfg.Zone, from, seq)
}

// admit finds a replica and refuses whoever holds a lower epoch than this zone
// knows of.
func (r *Receiver) admit(tx *catalog.Tx, k linkKey, epoch uint64) (rep block.Replica, found bool, err error) {
	rep, err = tx.ReplicaOf(k.zone, k.volume, k.protection)
	if err != nil && !block.Is(err, block.NotFound) {
		return rep, false, err
	}
	found = err == nil
	f, fenced, err := tx.Fence(k.zone, k.volume)
	if err != nil || r.broken.epochCheck {
		return rep, found, err
	}
	if fenced && f.Recovered.Epoch > epoch {
		return rep, found, staleEpoch(k.volume, f.Recovered.Epoch, epoch, f.Recovered)
	}
	if found && rep.Epoch > epoch {
		return rep, found, staleEpoch(k.volume, rep.Epoch, epoch, block.Recovered{})
	}
	return rep, found, nil
}

// Status tells how every replica stands, in order of age.
func (r *Receiver) Status(ctx context.Context) ([]ReplicaStatus, error) {
	var all []block.Replica
	err := r.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		all, err = tx.Replicas("")
		return err
	})
	out := make([]ReplicaStatus, 0, len(all))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rep := range all {
		k := linkKey{rep.SourceZone, rep.Source, rep.Protection}
		out = append(out, ReplicaStatus{Replica: rep.ID, SourceZone: rep.SourceZone, Source: rep.Source,
			Protection: rep.Protection, Epoch: rep.Epoch, Newest: rep.Newest, ReplicatedTo: rep.Current,
			Receiving: r.claims[k] != nil, LastError: r.errors[k], Deleted: rep.DeletedAt})
	}
	return out, err
}

// driver returns the driver that holds a replica.
func (r *Receiver) driver(rep block.Replica) (driver.Driver, error) {
	return r.cfg.Backends.Of(rep.Backend)
}

// orphans lists the driver snapshots of a replica that are no committed points
// and that nobody pinned.
func (r *Receiver) orphans(ctx context.Context, d driver.Driver, replica block.VolumeID) ([]block.PointID, error) {
	have, err := d.Snapshots(ctx, replica)
	if err != nil {
		return nil, err
	}
	keep := map[block.PointID]bool{}
	err = r.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		points, err := tx.Points(replica)
		if err != nil {
			return err
		}
		if keep, err = tx.PinnedPoints(replica); err != nil {
			return err
		}
		for _, p := range points {
			keep[p.ID] = true
		}
		return nil
	})
	var names []block.PointID
	for _, s := range have {
		if !keep[s.Name] {
			names = append(names, s.Name)
		}
	}
	return names, err
}

// deleteSnapshots deletes snapshots of a replica in the driver, the newest
// first.
func deleteSnapshots(ctx context.Context, d driver.Driver, replica block.VolumeID, names []block.PointID) error {
	for _, name := range slices.Backward(names) {
		if err := d.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: replica, Name: name}); err != nil &&
			!block.Is(err, block.NotFound) {
			return err
		}
	}
	return nil
}
