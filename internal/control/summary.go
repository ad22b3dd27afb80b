package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Summary is what a project's volumes come to.
type Summary struct {
	Count, GiB int64
	Metadata   map[string][]string // key -> its values, each once
}

// Summary adds up the volumes that fit a query: the caller's project's; for
// administrators, those of the query's project or of all.
func (s *Service) Summary(ctx context.Context, c block.Caller, q block.ListQuery) (sum Summary, err error) {
	if err := mayRead(c, "volume:get_all"); err != nil {
		return sum, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		t, err := tx.VolumeTotals(q)
		sum = Summary(t)
		return err
	})
	return sum, err
}

// CountVolumes says how many volumes the caller would see on all pages of a
// query.
func (s *Service) CountVolumes(ctx context.Context, c block.Caller, q block.ListQuery) (n int64, err error) {
	if err := mayRead(c, "volume:get_all"); err != nil {
		return 0, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		n, err = tx.CountVolumes(q)
		return err
	})
	return n, err
}

// CountSnapshots is CountVolumes for snapshots.
func (s *Service) CountSnapshots(ctx context.Context, c block.Caller, q block.ListQuery) (n int64, err error) {
	if err := mayRead(c, "volume:get_all_snapshots"); err != nil {
		return 0, err
	}
	if !c.Admin() {
		q.Project = c.Own()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		n, err = tx.CountSnapshots(q)
		return err
	})
	return n, err
}
