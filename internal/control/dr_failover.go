package control

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// FailoverRequest asks for a planned failover. Destination "" is the one zone
// to which the volume is replicated, DestinationType "" the type there that has
// the name of the volume's.
type FailoverRequest struct {
	Volume          block.VolumeID
	Destination     block.Zone
	DestinationType block.TypeID
	Back            bool // to the zone from which the volume was recovered
	// Key is an idempotency key: one failover begins however often it is asked for.
	Key string
}

func (r FailoverRequest) asked() block.FailoverAsk {
	return block.FailoverAsk{Volume: r.Volume, Destination: r.Destination, DestinationType: r.DestinationType,
		Back: r.Back}
}

// drainLimit is how long the last point may take before a planned failover
// gives the volume back, promoteLimit how long the destination may be
// silent before it is asked to leave it, and promoteMost how long it may be at it.
const (
	drainLimit   = 5 * time.Minute
	promoteLimit = time.Minute
	promoteMost  = 30 * time.Minute
)

// MaxFailovers is how many planned failovers a list has at most.
const MaxFailovers = 1000

// Failover begins to move a volume to another zone without loss, and returns
// the intent. From then on no host writes to the volume here. What can't be
// planned is refused: Unavailable where the destination does not answer or has
// no whole copy yet, Conflict while another one is under way.
//
// With an idempotency key the failover that the caller's project began with it
// is returned, however it stands; another request with that key is a Conflict.
func (s *Service) Failover(ctx context.Context, c block.Caller, req FailoverRequest) (f block.Failover, err error) {
	again := false
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		f, again, err = failoverAgain(tx, c, req)
		return err
	})
	if again || err != nil {
		return f, err
	}
	asked := req.asked()
	v, err := s.Volume(ctx, c, req.Volume)
	if err == nil {
		err = authorize(c, "kvol:failover", membersRule, volumeTarget(v))
	}
	if err != nil {
		return f, err
	}
	if req.Back && req.Destination == "" {
		if v.RecoveredFrom == nil {
			return f, block.Errorf(block.Invalid, "Volume %s was not recovered from another zone; there is no way back.", v.ID)
		}
		req.Destination = v.RecoveredFrom.Zone
	}
	p, err := s.wayTo(v, req.Destination)
	if err == nil {
		err = s.reached(ctx, p.Destination)
	}
	if err != nil {
		return f, err
	}
	if f, err = s.planFailover(ctx, v, req); err != nil {
		return f, err
	}
	f.Asker, f.Key, f.Request = c.Project, req.Key, asked
	err = s.changeVolume(ctx, c, v.ID, "kvol:failover", func(tx *catalog.Tx, v block.Volume) error {
		found, begun, err := failoverAgain(tx, c, FailoverRequest{asked.Volume, asked.Destination, asked.DestinationType,
			asked.Back, req.Key})
		if again = begun; again || err != nil {
			f = found
			return err
		}
		return s.beginFailover(tx, c, v, &f)
	})
	if err == nil && !again {
		s.log.Info("a planned failover began", "volume", v.ID, "peer", f.Destination, "failover", f.ID)
		s.exports.revokeWritable(v.ID)
		s.changed(v.ID)
	}
	return f, err
}

// failoverAgain finds the failover that the caller's project began with the same
// idempotency key.
func failoverAgain(tx *catalog.Tx, c block.Caller, req FailoverRequest) (f block.Failover, again bool, err error) {
	if len(req.Key) > maxKey {
		return f, false, block.Errorf(block.Invalid, "An idempotency key has at most %d bytes.", maxKey)
	}
	if req.Key == "" {
		return f, false, nil
	}
	f, err = tx.FailoverWithKey(c.Project, req.Key)
	if block.Is(err, block.NotFound) {
		return block.Failover{}, false, nil
	}
	if err == nil && (f.Request != req.asked() || !sees(c, f.Project)) {
		err = errKeyUsed()
	}
	if err == nil {
		err = authorize(c, "kvol:failover", membersRule, owned(f.Project, ""))
	}
	if err != nil {
		return block.Failover{}, false, err
	}
	return f, true, nil
}

// reached makes sure that a zone answers, and that what is known of it is new.
func (s *Service) reached(ctx context.Context, zone block.Zone) error {
	return block.Wrap(block.Unavailable, s.exchange(ctx, zone), "Zone %s does not answer. A planned failover needs both "+
		"zones; if this one is about to be lost, recover the volume there.", zone)
}

// planFailover says how a volume is to be moved, by what is known of the zone.
func (s *Service) planFailover(ctx context.Context, v block.Volume, req FailoverRequest) (f block.Failover, err error) {
	p, err := s.wayTo(v, req.Destination)
	if err != nil {
		return f, err
	}
	f = block.Failover{ID: block.NewID(), Volume: v.ID, Protection: p.Seq, Destination: p.Destination,
		SourceType: v.TypeID, Phase: block.FailoverDraining, Last: block.PointID(block.NewID())}
	f.DestinationType, err = s.typeThere(ctx, p.Destination, req.DestinationType, v)
	return f, err
}

// beginFailover writes the intent down: no more writes, the last snapshot's
// name, and the job.
func (s *Service) beginFailover(tx *catalog.Tx, c block.Caller, v block.Volume, f *block.Failover) error {
	if v.Switching != "" {
		return block.Errorf(block.Conflict, "Volume %s is being moved to zone %s already.", v.ID, v.Switching)
	}
	if err := notStale(v); err != nil {
		return err
	}
	if v.Status != block.VolumeAvailable && v.Status != block.VolumeInUse {
		return invalidVolume("Volume %s status must be available or in-use to be moved, but is %s.", v.ID, v.Status)
	}
	works, err := busy(tx, string(v.ID), 0)
	if err == nil && works {
		err = block.Errorf(block.Conflict, "Something else works on volume %s; try again.", v.ID)
	}
	if err != nil {
		return err
	}
	l, err := tx.Link(v.ID, f.Protection)
	if err := ignoring(block.NotFound, err); err != nil {
		return err
	}
	if l.Confirmed.ID == "" {
		return block.Errorf(block.Unavailable, "Zone %s has no whole copy of volume %s yet.", f.Destination, v.ID)
	}
	f.Project, f.Epoch, f.Started, f.Deadline = v.Project, v.Epoch, tx.Now, tx.Now.Add(drainLimit)
	v.Switching, v.ReplicationStatus = f.Destination, block.FailingOver
	params, err := json.Marshal(f)
	if err != nil {
		return err
	}
	audit := block.Audit{User: string(c.User), Call: "failover", Params: string(params), Code: 202,
		Project: v.Project, Operation: f.ID}
	return first(tx.UpdateVolume(v), tx.InsertCut(v.ID, f.Last), tx.Pin(v.ID, f.Last, failoverHolder(*f)),
		tx.PutFailover(*f), tx.InsertAudit(audit), enqueue(tx, jobFailover, string(v.ID), failoverArgs{f.ID}))
}

func failoverHolder(f block.Failover) string { return "failover/" + f.ID }

// wayTo is the policy by which a volume goes to a zone.
func (s *Service) wayTo(v block.Volume, zone block.Zone) (block.Protection, error) {
	var ways []block.Protection
	for _, p := range s.ownProtections() {
		if p.SourceType == v.TypeID && p.Enabled && (zone == "" || p.Destination == zone) {
			ways = append(ways, p)
		}
	}
	slices.SortFunc(ways, func(a, b block.Protection) int { return cmp.Compare(a.Seq, b.Seq) })
	switch {
	case len(ways) == 0 && zone == "":
		return block.Protection{}, block.Errorf(block.Invalid, "Volume %s is not replicated to another zone.", v.ID)
	case len(ways) == 0:
		return block.Protection{}, block.Errorf(block.Invalid, "Volume %s is not replicated to zone %s.", v.ID, zone)
	case zone == "" && ways[len(ways)-1].Destination != ways[0].Destination:
		return block.Protection{}, block.Errorf(block.Invalid,
			"Volume %s is replicated to several zones: destination must say to which it is to go.", v.ID)
	}
	return ways[0], nil
}

// typeThere chooses the volume's type in another zone.
func (s *Service) typeThere(
	ctx context.Context,
	zone block.Zone,
	id block.TypeID,
	v block.Volume,
) (block.TypeID, error) {
	d, _, _, err := s.PeerCopy(ctx, zone)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(d.Types, func(t DocumentType) bool { return t.ID == id || id == "" && t.Name == v.TypeName })
	if i < 0 {
		return "", block.Errorf(block.Invalid, "Zone %s has no volume type %s; destination_type must name one.", zone,
			cmp.Or(string(id), v.TypeName))
	}
	return d.Types[i].ID, nil
}

// FailoverOf returns a planned failover of a volume that the caller may see.
func (s *Service) FailoverOf(ctx context.Context, c block.Caller, id string) (f block.Failover, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		f, err = tx.Failover(id)
		return err
	})
	if err == nil && !sees(c, f.Project) {
		err = block.Errorf(block.NotFound, "Failover %s could not be found.", id)
	}
	return f, err
}

// Failovers lists the newest planned failovers out of this zone: all for
// administrators, for others those of their project.
func (s *Service) Failovers(ctx context.Context, c block.Caller) (list []block.Failover, err error) {
	project := c.Project
	if c.Admin() {
		project = ""
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		list, err = tx.Failovers(project, MaxFailovers)
		return err
	})
	return list, err
}
