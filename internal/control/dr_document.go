package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Document writes what this zone tells the others about itself.
func (s *Service) Document(ctx context.Context) (Document, error) {
	d := Document{
		Zone: s.cfg.Zone, Index: s.cfg.ZoneIndex, Region: s.cfg.Region, URL: s.cfg.DR.URL,
		Types: []DocumentType{}, Backends: s.backends.Backends(), Jobs: []block.DRJob{},
	}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		d.At, d.Types, d.Jobs = tx.Now, d.Types[:0], d.Jobs[:0]
		types, err := tx.Types(block.ListQuery{Limit: -1}, true)
		if err != nil {
			return err
		}
		for _, t := range types {
			d.Types = append(d.Types, DocumentType{ID: t.ID, Name: t.Name, Backend: t.BackendName()})
		}
		if d.Fences, err = tx.FenceRevision(); err != nil {
			return err
		}
		if d.Audit, err = tx.AuditHead(); err != nil {
			return err
		}
		for _, kind := range []block.DRKind{block.DRCreate, block.DRRecovery} {
			jobs, err := tx.DRJobs(kind, documentJobs)
			if err != nil {
				return err
			}
			d.Jobs = append(d.Jobs, jobs...)
		}
		return nil
	})
	if err != nil {
		return Document{}, err
	}
	d.Rooms, d.Relays = s.ownRooms(), s.Relays()
	d.Protections, err = s.OwnProtections(ctx)
	return d, err
}
