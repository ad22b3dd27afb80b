package upkeep

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Process is one of those that serve a zone together, and what it does for all.
type Process struct {
	catalog.Process
	Duties []string
}

// Processes lists the processes of the zone by name, those too that died within a
// day; none where one process serves it.
func (s *Service) Processes(ctx context.Context, c block.Caller) (all []Process, err error) {
	if err := allow(c); err != nil {
		return nil, err
	}
	err = s.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		all = nil
		list, err := tx.Processes()
		if err != nil {
			return err
		}
		duties, err := tx.Duties()
		for _, p := range list {
			one := Process{Process: p, Duties: []string{}}
			for _, d := range duties {
				if d.Live && d.Holder == p.ID {
					one.Duties = append(one.Duties, d.Name)
				}
			}
			all = append(all, one)
		}
		return err
	})
	return all, err
}
