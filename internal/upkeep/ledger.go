package upkeep

import (
	"context"
	"fmt"
	"log/slog"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
)

const (
	maxWaiting = 4096 // changes that wait to be written
	maxListed  = 1000 // damages of one answer, and of one store that are known again after a start
)

// Ledger keeps in the catalog what stores find damaged, so that an alarm
// outlives the process. Stores tell it before Run begins; it is written by Run,
// since a store that reads must not wait for the catalog. What a killed process
// did not write is found again by the next pass over the store.
type Ledger struct {
	catalog *catalog.Catalog
	log     *slog.Logger
	changes chan block.Damage
}

// NewLedger makes a Ledger.
func NewLedger(c *catalog.Catalog, log *slog.Logger) *Ledger {
	return &Ledger{catalog: c, log: log, changes: make(chan block.Damage, maxWaiting)}
}

// Known returns the damages of a store whose alarm stands.
func (l *Ledger) Known(ctx context.Context, store string) (known []logstore.Damage, err error) {
	err = l.catalog.View(ctx, func(tx *catalog.Tx) error {
		known = nil
		all, err := tx.Damages(store, false, maxListed)
		for _, d := range all {
			known = append(known, logstore.Damage{What: d.What, Volume: d.Volume, Segment: d.Segment, Off: d.SegmentAt,
				Extent: driver.Extent{Off: d.Off, Len: d.Len}, State: logstore.Damaged, Reason: d.Reason})
		}
		return err
	})
	return known, err
}

// Alarm returns what a store is to call when something is damaged, or is not
// any more.
func (l *Ledger) Alarm(store string) func(logstore.Damage) {
	return func(d logstore.Damage) {
		row := block.Damage{Store: store, What: d.What, Volume: d.Volume, Off: d.Extent.Off, Len: d.Extent.Len,
			Segment: d.Segment, SegmentAt: d.Off, State: string(d.State), Reason: d.Reason,
			Place: fmt.Sprintf("%08x@%d", d.Segment, d.Off)}
		if d.Segment == 0 || d.Extent.Len == 0 {
			row.Place = fmt.Sprintf("%08x %s@%d %s", d.Segment, d.Volume, d.Extent.Off, d.What)
		}
		select {
		case l.changes <- row:
		default:
			l.log.Error("a change of what is damaged could not be written down", "store", store, "volume", d.Volume)
		}
	}
}

// Run writes down what stores tell until ctx ends.
func (l *Ledger) Run(ctx context.Context) error {
	for {
		select {
		case d := <-l.changes:
			l.write(ctx, d)
		case <-ctx.Done():
			for len(l.changes) > 0 {
				l.write(ctx, <-l.changes)
			}
			return nil
		}
	}
}

func (l *Ledger) write(ctx context.Context, d block.Damage) {
	err := l.catalog.Update(context.WithoutCancel(ctx), func(tx *catalog.Tx) error { return tx.PutDamage(d) })
	if err != nil {
		l.log.Error("what is damaged could not be written down", "store", d.Store, "volume", d.Volume, "err", err)
	}
}
