package control

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// TakeoverOrder is what the source of a planned failover asks the destination
// for: to go on with the volume from a point that both have, or to leave it.
type TakeoverOrder struct {
	ID      string          `json:"id"`
	Request block.DRRequest `json:"request"`
	Epoch   uint64          `json:"epoch"` // of the volume until then
	Point   block.PointID   `json:"point"` // "" where the source had not got that far
	Root    block.RootHash  `json:"root"`
}

// Takeover is the answer; nothing of it is set while it is under way.
type Takeover struct {
	// Recovered says where the volume lives on: it took over, or, where Refused is
	// set too, somebody did otherwise.
	Recovered *block.Recovered `json:"recovered,omitempty"`
	Refused   string           `json:"refused,omitempty"` // it did not, and never will by this order
}

// The paths by which zones agree on a planned failover.
const (
	PathPromote = "/peer/v1/failover/promote"
	PathLeave   = "/peer/v1/failover/leave"
)

// Promote takes a volume over from the zone that asks. Asked again, it tells
// how far it is. The epoch rises in the transaction that makes the new volume
// available, so that one that fails leaves the source in its right.
func (s *Service) Promote(ctx context.Context, from block.Zone, o TakeoverOrder) (Takeover, error) {
	if err := s.checkTakeover(from, o); err != nil {
		return Takeover{}, err
	}
	_, err := s.start(ctx, drStart{s: s, req: o.Request, planned: &o}, string(from)+"/failover")
	if err != nil && block.KindOf(err) != block.Unavailable {
		if message, ok := block.UserMessage(err); ok {
			return Takeover{Refused: message}, nil
		}
	}
	if err != nil {
		return Takeover{}, err
	}
	var answer Takeover
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		j, err := tx.DRJobWithKey(o.Request.Kind, o.Request.IdempotencyKey)
		if err != nil {
			return err
		}
		answer, err = takeoverOf(tx, j, o)
		return err
	})
	return answer, err
}

// Leave makes sure that a volume is not taken over by an order any more, unless
// that happened. What was begun for it is deleted; nobody has written to it.
func (s *Service) Leave(ctx context.Context, from block.Zone, o TakeoverOrder) (answer Takeover, err error) {
	if err := s.checkTakeover(from, o); err != nil {
		return answer, err
	}
	const why = "The planned failover was given up."
	err = s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		j, err := tx.DRJobWithKey(o.Request.Kind, o.Request.IdempotencyKey)
		if block.Is(err, block.NotFound) { // an order that is late finds this
			n, err := tx.Next("dr." + string(o.Request.Kind))
			if err != nil {
				return err
			}
			if answer, err = elsewhere(tx, o, why); err != nil {
				return err
			}
			return tx.InsertDRJob(block.DRJob{Rowkey: n*zoneClasses + int64(s.cfg.ZoneIndex), Request: o.Request,
				Status: block.DRFail, Message: why, ReplicaZone: s.cfg.Zone, Start: tx.Now, End: tx.Now})
		}
		if err != nil {
			return err
		}
		if answer, err = takeoverOf(tx, j, o); err != nil || answer.Recovered != nil {
			return err
		}
		if j.End.IsZero() {
			j.Status, j.Message, j.End = block.DRFail, why, tx.Now
			if err := tx.UpdateDRJob(j); err != nil {
				return err
			}
		}
		answer = Takeover{Refused: j.Message}
		return first(dropUnused(tx, j.NewVolume), tx.InsertAudit(block.Audit{User: "zone " + string(from),
			Call: "failover left", Params: "volume=" + string(o.Request.SourceVolume), Operation: o.ID, Rowkey: j.Rowkey,
			Project: o.Request.Project, Outcome: j.Message}))
	})
	s.DRChanged()
	return answer, err
}

// dropUnused deletes a volume that was to be and is not.
func dropUnused(tx *catalog.Tx, id block.VolumeID) error {
	v, err := tx.Volume(id)
	if err != nil || v.Status == block.VolumeDeleting {
		return ignoring(block.NotFound, err)
	}
	if _, err := tx.MoveVolume(id, block.ForceDelete); err != nil {
		return err
	}
	return enqueue(tx, jobVolumeDelete, string(id), nil)
}

// takeoverOf tells how the job of an order stands. A volume that was recovered
// once more since lives on as what that made.
func takeoverOf(tx *catalog.Tx, j block.DRJob, o TakeoverOrder) (Takeover, error) {
	switch j.Status {
	case block.DRSuccess:
		f, found, err := tx.Fence(j.Request.SourceZone, j.Request.SourceVolume)
		if err == nil && !found {
			err = block.Errorf(block.Conflict, "Volume %s was taken over, and nobody knows where it lives on.",
				j.Request.SourceVolume)
		}
		return Takeover{Recovered: &f.Recovered}, err
	case block.DRFail:
		return elsewhere(tx, o, orDefaultText(j.Message, "It failed."))
	}
	return Takeover{}, nil
}

// elsewhere is the answer of a zone that did not take over by an order and never
// will. If the volume was recovered otherwise meanwhile, it says where.
func elsewhere(tx *catalog.Tx, o TakeoverOrder, why string) (Takeover, error) {
	f, found, err := tx.Fence(o.Request.SourceZone, o.Request.SourceVolume)
	if err != nil || !found || f.Recovered.Epoch <= o.Epoch {
		return Takeover{Refused: why}, err
	}
	return Takeover{Refused: why, Recovered: &f.Recovered}, nil
}

// choose takes the newest point if it is what the source says that the volume
// is: points of the same content may follow each other. One that is known to be damaged
// is not, whatever root was committed: the source has the volume whole.
func (o *TakeoverOrder) choose(tx *catalog.Tx, candidates []block.Replica) (block.Replica, block.Point, error) {
	for _, r := range candidates {
		p := r.Newest
		if p.ID == "" || p.Root != o.Root || r.Epoch != o.Epoch {
			continue
		}
		damaged, err := tx.DamagedPoints(r.ID)
		if err == nil && damaged[p.ID] != "" {
			err = errDamaged(r, p)
		}
		return r, p, err
	}
	return block.Replica{}, block.Point{}, block.Errorf(block.Conflict,
		"The newest point here is not the one with which the volume is to go on.")
}

func (s *Service) checkTakeover(from block.Zone, o TakeoverOrder) error {
	if err := checkDR(o.Request); err != nil {
		return err
	}
	if o.Request.SourceZone != from || o.Request.Destination != s.cfg.Zone || o.ID == "" ||
		o.Request.Kind != block.DRRecovery || o.Request.IdempotencyKey != "failover/"+o.ID {
		return block.Errorf(block.Invalid, "Zone %s may not order this of zone %s.", from, s.cfg.Zone)
	}
	return nil
}
