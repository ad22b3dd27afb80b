package control

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
	"kvol/internal/replication"
)

func errDRAdmin() error {
	return block.Errorf(block.Forbidden, "Only an administrator may see this.")
}

// KnownZone is what a zone knows of itself or of another one.
type KnownZone struct {
	Document
	Own   bool
	Heard time.Time // when its document came; zero for the own zone and for one that was never heard
}

// KnownZones lists this zone and all others of the configuration by name, for
// administrators.
func (s *Service) KnownZones(ctx context.Context, c block.Caller) ([]KnownZone, error) {
	if !c.Admin() {
		return nil, errDRAdmin()
	}
	mine, err := s.Document(ctx)
	if err != nil {
		return nil, err
	}
	zones := []KnownZone{{Document: mine, Own: true}}
	for _, name := range s.otherZones() {
		d, heard, ok, err := s.PeerCopy(ctx, name)
		if err != nil {
			return nil, err
		}
		if !ok {
			d.Zone = name
		}
		zones = append(zones, KnownZone{Document: d, Heard: heard})
	}
	slices.SortFunc(zones, func(a, b KnownZone) int { return cmp.Compare(a.Zone, b.Zone) })
	return zones, nil
}

// KnownPairs lists all policies that this zone has heard of, by seq and source, with their
// status as far as it is known here, for administrators.
func (s *Service) KnownPairs(ctx context.Context, c block.Caller) ([]Pair, error) {
	if !c.Admin() {
		return nil, errDRAdmin()
	}
	found, err := s.OwnProtections(ctx)
	if err != nil {
		return nil, err
	}
	copies, err := s.copies(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range copies {
		found = append(found, d.Protections...)
	}
	var pairs []Pair
	for _, f := range found {
		s.fillBackends(&f.Protection, copies)
		pairs = append(pairs, Pair{f.Protection, PairStatus(f.Protection, f.Health, s.now())})
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return bySeq(a.Protection, b.Protection) })
	return pairs, nil
}

// Replicas lists the replicas in this zone by age: all for administrators, for
// others those whose source belongs to their project.
func (s *Service) Replicas(ctx context.Context, c block.Caller) (seen []block.Replica, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err := tx.Replicas("")
		seen = slices.DeleteFunc(all, func(r block.Replica) bool { return !sees(c, r.Entry.Volume.Project) })
		return err
	})
	return seen, err
}

// Replica returns the replicas of a volume of another zone, one for each
// policy, with their committed points from old to new. It is NotFound where the
// caller may see none.
func (s *Service) Replica(ctx context.Context, c block.Caller, zone block.Zone, source block.VolumeID) (
	found []ReplicaPoints, err error,
) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		found = nil
		for _, p := range s.protectionsInto(zone) {
			r, err := tx.ReplicaOf(zone, source, p.Seq)
			if block.Is(err, block.NotFound) || err == nil && !sees(c, r.Entry.Volume.Project) {
				continue
			}
			if err != nil {
				return err
			}
			one, err := replicaPoints(tx, r)
			if err != nil {
				return err
			}
			found = append(found, one)
		}
		if found == nil {
			return block.Errorf(block.NotFound, "A replica of volume %s of zone %s could not be found.", source, zone)
		}
		return nil
	})
	return found, err
}

func (s *Service) protectionsInto(source block.Zone) []block.Protection {
	return slices.DeleteFunc(s.KnownProtections(), func(p block.Protection) bool {
		return p.SourceZone != source || p.Destination != s.cfg.Zone
	})
}

// SourceLink is the replication of one volume of this zone under one policy.
type SourceLink struct {
	catalog.Link
	Destination block.Zone
	Project     block.ProjectID
	// UnreplicatedSince is when the first change that the target may lack was
	// noticed; zero if there is none, or if nobody looks.
	UnreplicatedSince time.Time
	// Unreplicated is how many bytes the target lacked as of UnreplicatedAt; -1
	// where that was not counted yet.
	Unreplicated   int64
	UnreplicatedAt time.Time
	// Transfer is how far the step is that is under way, if it takes long; zero
	// otherwise. Ready is when it will be done at its pace; zero where nobody knows.
	Transfer replication.Transfer
	Ready    time.Time
}

// Links lists how the volumes of this zone are replicated: all for
// administrators, for others those of their project.
func (s *Service) Links(ctx context.Context, c block.Caller) (seen []SourceLink, err error) {
	policies := s.ownProtections()
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		seen = nil
		links, err := s.sourceLinks(tx)
		if err != nil {
			return err
		}
		owners, err := tx.LinkedOwners()
		if err != nil {
			return err
		}
		projects := make(map[block.VolumeID]block.ProjectID, len(owners)) // those of deleted volumes are not known
		for _, o := range owners {
			projects[o.Volume] = o.Project
		}
		for _, l := range links {
			project := projects[l.Volume]
			if !sees(c, project) {
				continue
			}
			if !c.Admin() {
				l.Error = "" // it speaks of stores and addresses
			}
			l.Project = project
			if i := slices.IndexFunc(policies, func(p block.Protection) bool { return p.Seq == l.Protection }); i >= 0 {
				l.Destination = policies[i].Destination
			}
			seen = append(seen, l)
		}
		return nil
	})
	return seen, err
}

// DROperation is a job of the kvol API with what is behind it.
type DROperation struct {
	block.DRJob
	Step     string // what is being done now
	Attempts int
	Error    string          // of the last attempt, for operators
	Evidence json.RawMessage // recovery.Evidence; nil before the end
	Fresh    Freshness
}

// DROperation returns a job of any zone with its evidence: any for
// administrators, for others those that made a volume of their project, without
// what speaks of stores. What is behind a job is known only to the zone in which
// it runs.
func (s *Service) DROperation(ctx context.Context, c block.Caller, kind block.DRKind, rowkey int64) (
	DROperation, error,
) {
	if rowkey < 1 {
		return DROperation{}, block.Errorf(block.Invalid, "A rowkey is a number above zero.")
	}
	jobs, fresh, err := s.DRJobs(ctx, kind, rowkey, 1)
	if err != nil {
		return DROperation{}, err
	}
	if len(jobs) == 0 || !sees(c, jobs[0].Request.Project) {
		return DROperation{}, block.Errorf(block.NotFound, "No %s job has rowkey %d.", kind, rowkey)
	}
	op := DROperation{DRJob: jobs[0], Fresh: fresh}
	if op.Request.Destination != s.cfg.Zone || op.NewVolume == "" {
		return op, nil
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		behind, err := tx.JobsOf(string(op.NewVolume))
		for _, j := range behind {
			if op.withJob(j) {
				break
			}
		}
		return err
	})
	if !c.Admin() {
		op.Error = "" // it speaks of stores and addresses
	}
	return op, err
}

// withJob takes over what a job of the runner knows, if it is the one that
// fills the volume.
func (op *DROperation) withJob(j block.Job) bool {
	if j.Kind != recovery.JobKind || j.Step == recovery.ReleaseStep {
		return false
	}
	op.Step, op.Attempts, op.Error, op.Evidence = j.Step, j.Attempts, j.Error, j.Evidence
	if op.End.IsZero() {
		op.BytesDone = j.Done
	}
	return true
}
