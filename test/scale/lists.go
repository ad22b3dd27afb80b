package main

import (
	"context"
	"errors"
	"fmt"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/placement"
)

// lists reads pages as the API does: of a tenant with a tenth of all volumes, of
// one with few, and of all.
func (l *lab) lists(ctx context.Context) error {
	big := block.Caller{Project: project(0), User: "u", Roles: []string{"member"}}
	small := block.Caller{Project: project(1), User: "u", Roles: []string{"member"}}
	marker := func(i int) string { return string(l.ids[i%len(l.ids)]) }
	byName := []block.SortKey{{Column: "name"}}
	own, err := l.middle(ctx, big.Project, nil)
	if err != nil {
		return err
	}
	named, err := l.middle(ctx, big.Project, byName)
	if err != nil {
		return err
	}
	for _, q := range []struct {
		what string
		c    block.Caller
		q    func(i int) block.ListQuery
	}{
		{"page of 50, small tenant", small, func(int) block.ListQuery { return block.ListQuery{Limit: 50} }},
		{"page of 1,000, large tenant", big, func(int) block.ListQuery { return block.ListQuery{Limit: 1000} }},
		{"page of 50 from the middle, large tenant", big,
			func(int) block.ListQuery { return block.ListQuery{Limit: 50, Marker: own} }},
		{"page of 50 by name from the middle, large tenant", big, func(int) block.ListQuery {
			return block.ListQuery{Limit: 50, Marker: named, Sort: byName}
		}},
		{"page of 50 of one status, large tenant", big, func(int) block.ListQuery {
			return block.ListQuery{Limit: 50, Filters: map[string]string{"status": "available"}}
		}},
		{"page of 50 from anywhere, all tenants", operator,
			func(i int) block.ListQuery { return block.ListQuery{Limit: 50, Marker: marker(i)} }},
		{"page of 50 by size from anywhere, all tenants", operator, func(i int) block.ListQuery {
			return block.ListQuery{Limit: 50, Marker: marker(i), Sort: []block.SortKey{{Column: "size", Desc: true}}}
		}},
	} {
		err := l.times(q.what, l.rounds, func(i int) error {
			page, err := l.rules.Volumes(ctx, q.c, q.q(i))
			if err == nil && len(page) == 0 {
				err = errors.New("the page is empty")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return l.times("showing a volume", l.rounds, func(i int) error {
		_, err := l.rules.Volume(ctx, operator, block.VolumeID(marker(i)))
		return err
	})
}

// middle is a volume in the middle of a project's, in that order: one that is in
// the middle of another order may be the last of this one, as names are random.
func (l *lab) middle(ctx context.Context, of block.ProjectID, by []block.SortKey) (id string, err error) {
	err = l.catalog.View(ctx, func(tx *catalog.Tx) error {
		page, err := tx.Volumes(block.ListQuery{Project: of, Sort: by, Limit: max(1, l.volumes/20)})
		if len(page) > 0 {
			id = string(page[len(page)-1].ID)
		}
		return err
	})
	return id, err
}

// half leaves of the ids that which is in the middle of all, in whatever direction
// they are listed: a page that begins anywhere else may be empty in a small zone.
func (l *lab) half(ctx context.Context) error {
	return l.catalog.View(ctx, func(tx *catalog.Tx) error {
		page, err := tx.Volumes(block.ListQuery{Limit: max(1, l.volumes/2)})
		if err == nil && len(page) == 0 {
			err = errors.New("there is no volume")
		}
		if err == nil {
			l.ids = []block.VolumeID{page[len(page)-1].ID}
		}
		return err
	})
}

// places makes volumes, for which a backend is chosen among eight, and lists the
// pools.
func (l *lab) places(ctx context.Context) error {
	c := block.Caller{Project: project(2), User: "u", Roles: []string{"member"}}
	operator := block.Caller{Project: project(2), User: "root", Roles: []string{"admin"}}
	if err := l.rules.SetQuotas(ctx, operator, c.Project, map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
		return err
	}
	gib := int64(1)
	err := l.times("asking for a volume, one at a time", l.rounds, func(int) error {
		v, err := l.rules.CreateVolume(ctx, c, control.NewVolume{Size: &gib})
		if err == nil && v.Backend == "" {
			err = errors.New("no backend was found")
		}
		return err
	})
	if err != nil {
		return err
	}
	pools := make([]placement.Pool, 8)
	for i := range pools {
		pools[i] = placement.Pool{
			Backend: fmt.Sprint(i),
			Store:   fmt.Sprint(i),
			Known:   true,
			Total:   100,
			Free:    float64(i),
			Ratio:   20,
		}
	}
	if err := l.times("choosing among eight backends", l.rounds, func(int) error {
		if placement.Choose(placement.Request{Size: 1}, pools, placement.Weights{Capacity: 1}).Backend() == "" {
			return errors.New("no backend was chosen")
		}
		return nil
	}); err != nil {
		return err
	}
	return l.times("listing pools", l.rounds, func(int) error {
		_, err := l.rules.Pools(ctx, operator)
		return err
	})
}
