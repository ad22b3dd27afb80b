package control

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// zoneClasses is how many residue classes rowkeys have: one for each zone.
const zoneClasses = 64

// MaxDRJobs is how many jobs a list has at most.
const MaxDRJobs = 1000

// DRJobs lists jobs of a kind from all zones, the newest first: at most limit,
// or with a rowkey above zero only the one of that rowkey. A zone that can't
// be reached is answered for from its copy.
func (s *Service) DRJobs(ctx context.Context, kind block.DRKind, rowkey int64, limit int) (
	[]block.DRJob, Freshness, error,
) {
	var fresh Freshness
	own, err := s.OwnDRJobs(ctx, kind, rowkey, limit)
	if err != nil || rowkey > 0 && rowkey%zoneClasses == int64(s.cfg.ZoneIndex) {
		return own, fresh, err
	}
	zones, err := s.zonesOf(ctx, rowkey)
	if err != nil {
		return nil, fresh, err
	}
	theirs, err := s.jobsOf(ctx, zones, kind, rowkey, limit, &fresh)
	if err != nil {
		return nil, fresh, err
	}
	all := append(own, theirs...)
	slices.SortFunc(all, newestFirst)
	return all[:min(len(all), limitOf(rowkey, limit))], fresh, nil
}

func newestFirst(a, b block.DRJob) int {
	return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(b.Rowkey, a.Rowkey))
}

func limitOf(rowkey int64, limit int) int {
	if rowkey > 0 {
		return 1
	}
	return limit
}

// OwnDRJobs is DRJobs for the jobs that run in this zone.
func (s *Service) OwnDRJobs(ctx context.Context, kind block.DRKind, rowkey int64, limit int) ([]block.DRJob, error) {
	if limit < 1 || limit > MaxDRJobs || rowkey < 0 {
		return nil, block.Errorf(block.Invalid, "limit must be between 1 and %d.", MaxDRJobs)
	}
	var jobs []block.DRJob
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if rowkey == 0 {
			jobs, err = tx.DRJobs(kind, limit)
			return err
		}
		j, err := tx.DRJob(kind, rowkey)
		if block.Is(err, block.NotFound) {
			return nil
		}
		jobs = []block.DRJob{j}
		return err
	})
	return jobs, err
}

// zonesOf returns the other zones in which a job may be: the one of the
// rowkey's class where that is known, else all.
func (s *Service) zonesOf(ctx context.Context, rowkey int64) ([]block.Zone, error) {
	others := s.otherZones()
	if rowkey == 0 {
		return others, nil
	}
	copies, err := s.copies(ctx)
	i := slices.IndexFunc(copies, func(d Document) bool {
		return int64(d.Index) == rowkey%zoneClasses && slices.Contains(others, d.Zone)
	})
	if i >= 0 {
		return []block.Zone{copies[i].Zone}, err
	}
	return others, err
}

// jobsOf asks zones for their jobs, all at once.
func (s *Service) jobsOf(ctx context.Context, zones []block.Zone, kind block.DRKind, rowkey int64, limit int,
	fresh *Freshness,
) ([]block.DRJob, error) {
	query := url.Values{"kind": {string(kind)}, "rowkey": {strconv.FormatInt(rowkey, 10)}, "limit": {strconv.Itoa(limit)}}
	answers, errs := make([][]block.DRJob, len(zones)), make([]error, len(zones))
	var wg sync.WaitGroup
	for i, zone := range zones {
		wg.Go(func() { errs[i] = s.ask(ctx, zone, PathDRJobs, query, &answers[i]) })
	}
	wg.Wait()
	var all []block.DRJob
	for i, zone := range zones {
		if !block.Is(errs[i], block.Unavailable) {
			all = append(all, answers[i]...)
			continue
		}
		errs[i] = nil
		d, _, _, err := s.PeerCopy(ctx, zone)
		if err != nil {
			return nil, err
		}
		fresh.missed(zone, d.At)
		for _, j := range d.Jobs {
			if j.Request.Kind == kind && (rowkey == 0 || j.Rowkey == rowkey) {
				all = append(all, j)
			}
		}
	}
	return all, errors.Join(errs...)
}
