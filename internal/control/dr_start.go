package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
	"kvol/internal/rivals"
)

// ForwardedDR is a request on its way to the zone in which it runs.
type ForwardedDR struct {
	Request block.DRRequest `json:"request"`
	User    string          `json:"user"` // of the kvol API, as the first zone knew it
}

// StartedDR is the answer to a ForwardedDR.
type StartedDR struct {
	Rowkey int64 `json:"rowkey"`
}

// forwardAttempts is how often a request is handed to its zone before the
// caller hears that it can't be reached.
const forwardAttempts = 2

// StartDR starts a create or a recovery in its destination zone, wherever it
// is called, and returns the new job's rowkey. NotFound is for a zone, type,
// volume, snapshot or policy that is unknown, Invalid for a request that can't
// be meant, Unavailable for a destination that does not answer. What only the
// data can tell (no recovery point yet, no room in the tenant's quota) fails
// the job, not the call. A request with an idempotency key starts one job
// however often it is made.
func (s *Service) StartDR(ctx context.Context, req block.DRRequest, remoteUser string) (rowkey int64, err error) {
	if err := checkDR(req); err != nil {
		return 0, err
	}
	if req.Destination == s.cfg.Zone {
		return s.startHere(ctx, req, remoteUser)
	}
	if !slices.Contains(s.otherZones(), req.Destination) {
		return 0, block.Errorf(block.NotFound, "Zone %s is unknown here.", req.Destination)
	}
	if req.IdempotencyKey == "" {
		// Of a request whose answer was lost nobody knows whether it ran.
		req.IdempotencyKey = "forwarded/" + block.NewID()
	}
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	forward := ForwardedDR{Request: req, User: remoteUser}
	var started StartedDR
	for range forwardAttempts {
		attempt, done := context.WithTimeout(ctx, forwardTimeout/forwardAttempts)
		err = s.cfg.DR.Peers.Call(attempt, req.Destination, http.MethodPost, PathDR, forward, &started)
		done()
		if !block.Is(err, block.Unavailable) {
			break
		}
	}
	return started.Rowkey, err
}

// ReceiveDR starts a request that another zone passed on. It is never passed
// on again.
func (s *Service) ReceiveDR(ctx context.Context, from block.Zone, f ForwardedDR) (StartedDR, error) {
	if err := checkDR(f.Request); err != nil {
		return StartedDR{}, err
	}
	if f.Request.Destination != s.cfg.Zone {
		return StartedDR{}, block.Errorf(block.Invalid, "This is zone %s, not %s.", s.cfg.Zone, f.Request.Destination)
	}
	rowkey, err := s.startHere(ctx, f.Request, string(from)+"/"+f.User)
	return StartedDR{Rowkey: rowkey}, err
}

func checkDR(req block.DRRequest) error {
	switch {
	case req.Kind != block.DRCreate && req.Kind != block.DRRecovery:
		return block.Errorf(block.Invalid, "There is no job of kind %q.", req.Kind)
	case req.SourceZone == req.Destination:
		return block.Errorf(block.Invalid, "dst-zone must not be src-zone.")
	case req.SourceZone == "" || req.SourceType == "" || req.Destination == "" || req.Project == "" ||
		req.DestinationType == "":
		return block.Errorf(block.Invalid, "Source and destination zone, both types and the tenant are needed.")
	case (req.Kind == block.DRCreate) != (req.SourceSnapshot != "") ||
		(req.Kind == block.DRRecovery) != (req.SourceVolume != ""):
		return block.Errorf(block.Invalid, "A create names a snapshot, a recovery a volume.")
	}
	return nil
}

// startHere starts a request in this zone. A source that no replica here knows
// of may be too new to be replicated: then its zone is asked, and if that knows
// it, there is a job, which fails.
func (s *Service) startHere(ctx context.Context, req block.DRRequest, user string) (int64, error) {
	if s.cfg.DR.SecondConsent && req.Kind == block.DRRecovery {
		// The document has no words for consent, and its recoveries don't ask what is lost.
		return 0, block.Errorf(block.Conflict, "In zone %s a second administrator has to agree to recoveries: "+
			"begin them with kvol dr recover, or POST /api/dr/v1/recoveries.", s.cfg.Zone)
	}
	return s.start(ctx, drStart{s: s, req: req}, user)
}

func (s *Service) start(ctx context.Context, start drStart, user string) (int64, error) {
	req := start.req
	for _, p := range s.KnownProtections() {
		if p.SourceZone == req.SourceZone && p.SourceType == req.SourceType && p.Destination == s.cfg.Zone {
			start.pairs = append(start.pairs, p)
		}
	}
	start.user = user
	if err := s.measureRooms(ctx); err != nil {
		return 0, err
	}
	release, err := start.bid(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	err = s.catalog.Update(ctx, start.run)
	if start.unknown && s.sourceKnows(ctx, req) {
		start.sourceKnows = true
		err = s.catalog.Update(ctx, start.run)
	}
	if start.outdone {
		start.won.Err = err
		err = s.catalog.Update(ctx, start.run)
	}
	if err != nil {
		return 0, err
	}
	if start.volume != "" && s.cfg.OnChange != nil {
		s.cfg.OnChange(start.volume)
	}
	s.DRChanged()
	s.log.Info("a job of the kvol API was started", "kind", req.Kind, "rowkey", start.rowkey, "peer", req.SourceZone,
		"volume", start.volume, "user", user)
	return start.rowkey, nil
}

// drStart is one attempt to start a request in this zone. run may be run again.
type drStart struct {
	s           *Service
	req         block.DRRequest
	pairs       []block.Protection   // between the request's zones and types
	sourceKnows bool                 // the source zone has the volume or snapshot
	planned     *TakeoverOrder       // of the source zone, where the failover is planned
	step        *block.OperationStep // of the operation that asks; nil for none
	won         rivals.Outcome       // what other zones say to it
	user        string               // for the audit log

	rowkey  int64          // results
	volume  block.VolumeID // "" if none was made
	unknown bool           // no replica here knows of the source
	outdone bool           // another zone was quicker
}

// bid asks the other zones that may take the volume over, unless the request was
// started before. A silent zone does not hold up a planned failover of which
// nothing is known that would: who has the right to write gives it over.
func (d *drStart) bid(ctx context.Context) (release func(), err error) {
	release = func() {}
	if d.req.Kind != block.DRRecovery {
		return release, nil
	}
	started := false
	err = d.s.catalog.View(ctx, func(tx *catalog.Tx) error {
		started, err = d.again(tx)
		return err
	})
	if started || err != nil {
		return release, err
	}
	v := foreign{d.req.SourceZone, d.req.SourceVolume}
	won, release, err := d.s.bid(ctx, []foreign{v}, rivals.Rule{Unknown: d.planned != nil || d.s.cfg.DR.AcceptSilent})
	d.won = won[v]
	return release, err
}

func (d *drStart) run(tx *catalog.Tx) error {
	d.rowkey, d.volume, d.unknown, d.outdone = 0, "", false, false
	if again, err := d.again(tx); again || err != nil {
		return err
	}
	tenant := block.Caller{Project: d.req.Project}
	t, err := usableType(tx, tenant, d.req.DestinationType) // a private type is the tenant's or it is not there
	if err != nil {
		return err
	}
	if len(d.pairs) == 0 {
		return block.Errorf(block.NotFound, "Volumes of type %s in zone %s are not replicated to zone %s.",
			d.req.SourceType, d.req.SourceZone, d.s.cfg.Zone)
	}
	j, err := d.newJob(tx, t)
	if err != nil {
		return err
	}
	r, p, err := d.choose(tx)
	d.unknown = block.Is(err, block.NotFound)
	if d.unknown && d.sourceKnows {
		err = block.Errorf(block.Unavailable, "Nothing of it is replicated to zone %s yet.", d.s.cfg.Zone)
	}
	if r.ID != "" {
		j.ReplicaSVM = d.pair(r.Protection).Backup.SVMName
	}
	if err == nil {
		err = d.room(tx, &j, t, p)
	}
	if err == nil {
		err = d.won.Err
	}
	if block.Is(err, block.Unavailable) || block.Is(err, block.OverLimit) || err != nil && err == d.won.Err {
		j.Status, j.End = block.DRFail, tx.Now
		j.Message, _ = block.UserMessage(err)
		return first(tx.InsertDRJob(j), d.audit(tx, j))
	}
	if err != nil {
		return err
	}
	return d.begin(tx, j, t, r, p)
}

// audit notes what began, or why it could not.
func (d *drStart) audit(tx *catalog.Tx, j block.DRJob) error {
	a := block.Audit{
		User:    d.user,
		Call:    string(d.req.Kind) + " begins",
		Code:    202,
		Rowkey:  j.Rowkey,
		Project: d.req.Project,
		Outcome: j.Message,
		Params: fmt.Sprintf("zone=%s&volume=%s&snapshot=%s&new_volume=%s", d.req.SourceZone,
			d.req.SourceVolume, d.req.SourceSnapshot, j.NewVolume),
	}
	if j.Point != nil {
		a.Params += fmt.Sprintf("&point=%s&at=%s", j.Point.ID, j.Point.At.UTC().Format(time.RFC3339Nano))
	}
	if d.step != nil {
		a.Operation = d.step.Operation
	}
	if d.planned != nil {
		a.Operation = d.planned.ID
	}
	return tx.InsertAudit(a)
}

// again finds the job that a request with the same idempotency key started.
func (d *drStart) again(tx *catalog.Tx) (bool, error) {
	if d.req.IdempotencyKey == "" {
		return false, nil
	}
	j, err := tx.DRJobWithKey(d.req.Kind, d.req.IdempotencyKey)
	if block.Is(err, block.NotFound) {
		return false, nil
	}
	if err == nil && j.Request != d.req {
		err = block.Errorf(block.Invalid, "The Idempotency-Key was used for another request.")
	}
	d.rowkey = j.Rowkey
	return err == nil, err
}

func (d *drStart) newJob(tx *catalog.Tx, t block.VolumeType) (block.DRJob, error) {
	n, err := tx.Next("dr." + string(d.req.Kind))
	if err != nil {
		return block.DRJob{}, err
	}
	d.rowkey = n*zoneClasses + int64(d.s.cfg.ZoneIndex)
	j := block.DRJob{
		Rowkey: d.rowkey, Request: d.req, Status: block.DRReady, ReplicaZone: d.s.cfg.Zone,
		ReplicaSVM: d.pairs[0].Backup.SVMName, Start: tx.Now, Notes: slices.Clone(d.won.Notes),
	}
	name, err := d.s.backendOf(&t)
	if err != nil {
		return block.DRJob{}, err
	}
	b, _ := d.s.backends.Backend(name)
	j.DestinationSVM = b.SVMName
	return j, nil
}

func (d *drStart) pair(seq int64) block.Protection {
	i := slices.IndexFunc(d.pairs, func(p block.Protection) bool { return p.Seq == seq })
	if i < 0 {
		return block.Protection{}
	}
	return d.pairs[i]
}

// choose finds the replica and the recovery point. Where several policies
// brought the volume here, the newest point wins.
func (d *drStart) choose(tx *catalog.Tx) (best block.Replica, point block.Point, err error) {
	candidates, err := d.candidates(tx)
	if err != nil {
		return best, point, err
	}
	if d.planned != nil {
		return d.planned.choose(tx, candidates)
	}
	err = block.Errorf(block.NotFound, "This zone has no replica of it.")
	for _, r := range candidates {
		p, why := newestWhole(tx, r)
		if d.req.Kind == block.DRCreate {
			points, err := tx.Points(r.ID)
			if err == nil {
				points, _, err = whole(tx, r.ID, points)
			}
			if err != nil {
				return best, point, err
			}
			p, why = recovery.OfSnapshot(r, points, d.req.SourceSnapshot)
			if why != nil && !recovery.Knows(r, d.req.SourceSnapshot) {
				continue // its text only looks like that
			}
		}
		switch {
		case why == nil && (err != nil || p.At.After(point.At)):
			best, point, err = r, p, nil
		case why != nil && err != nil:
			best, err = r, why
		}
	}
	return best, point, err
}

func (d *drStart) candidates(tx *catalog.Tx) (found []block.Replica, err error) {
	if d.req.Kind == block.DRCreate {
		named, err := tx.ReplicasNaming(d.req.SourceZone, block.PointID(d.req.SourceSnapshot))
		for _, r := range named {
			if d.pair(r.Protection).Seq == r.Protection {
				found = append(found, r)
			}
		}
		return found, err
	}
	for _, p := range d.pairs {
		r, err := tx.ReplicaOf(d.req.SourceZone, d.req.SourceVolume, p.Seq)
		if block.Is(err, block.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, r)
	}
	return found, nil
}

// room checks the tenant's quota. A create that does not fit fails; a recovery
// goes on, and its evidence says so: see docs/adr/0004-recovery-quota.md.
func (d *drStart) room(tx *catalog.Tx, j *block.DRJob, t block.VolumeType, p block.Point) error {
	size := (p.Size + block.GiB - 1) / block.GiB
	err := checkVolumeSize(tx, d.req.Project, size)
	if err == nil {
		err = checkQuota(tx, d.req.Project, volumeDelta(1, size, t.Name))
	}
	if d.req.Kind == block.DRRecovery && block.Is(err, block.OverLimit) {
		message, _ := block.UserMessage(err)
		j.Notes = append(j.Notes, "recovered over quota: "+message)
		return nil
	}
	return err
}

// leased reports whether the source zone may hold a lease of this one.
func (d *drStart) leased() bool {
	return d.req.Kind == block.DRRecovery && d.planned == nil &&
		slices.ContainsFunc(d.pairs, func(p block.Protection) bool { return p.Lease > 0 })
}

// promote takes the right to write over, at once unless the source waits for the
// end or may hold a lease, and has the new volume's beginning kept, so that the way
// back is short.
func (d *drStart) promote(tx *catalog.Tx, v *block.Volume, r block.Replica, p block.Point) error {
	if err := recovery.KeepOrigin(tx, v, r, p); err != nil || d.planned != nil || d.leased() {
		return err
	}
	err := d.s.self().Promote(tx, v, r.ID, p.ID, d.won.Epoch)
	d.outdone = block.Is(err, block.Conflict)
	return err
}

// named gives a volume the name that its step has for it, and returns the
// availability zone that the step wants; nil for the default.
func (d *drStart) named(v *block.Volume) *string {
	if d.step == nil {
		return nil
	}
	p, err := paramsOf(*d.step)
	if err != nil {
		return nil // it was read before
	}
	if p.Name != "" {
		v.Name = &p.Name
	}
	return &p.Zone
}

// begin writes the intent: the right to write, the volume, the row and the job
// that fills the volume.
func (d *drStart) begin(tx *catalog.Tx, j block.DRJob, t block.VolumeType, r block.Replica, p block.Point) error {
	d.volume = block.VolumeID(block.NewID())
	v := recovery.Volume(d.volume, d.req, r, p)
	var err error
	if d.s.protected(v.TypeID) {
		v.ReplicationStatus = "enabled"
	}
	if v.AvailabilityZone, err = d.s.availabilityZone(d.named(&v), &t); err != nil {
		return err
	}
	usual, err := d.s.availabilityZone(nil, &t)
	if err != nil {
		return err
	}
	zoned := v.AvailabilityZone != usual
	if err := d.s.placeRecovered(tx, &v, t, r.Backend, zoned); err != nil {
		return err
	}
	lies, _ := d.s.backends.Backend(v.Backend)
	j.DestinationSVM = lies.SVMName
	if d.req.Kind == block.DRRecovery {
		err = first(yieldDrills(tx, r), d.promote(tx, &v, r, p))
		if err != nil {
			return err
		}
	}
	if err := d.s.adoptKey(tx, &v, t, r); err != nil {
		return err
	}
	if err := tx.InsertVolume(v); err != nil {
		return err
	}
	order := recovery.Order{
		Kind: d.req.Kind, Rowkey: d.rowkey, Replica: r.ID, Backup: r.Backend, Point: p.ID, Volume: v.ID,
		Bid: d.won.Epoch, Zoned: zoned,
	}
	if d.planned != nil {
		order.Planned, order.SourceEpoch = true, d.planned.Epoch
	}
	if d.leased() {
		order.SourceEpoch = r.Epoch
		order.Lease = &recovery.LeaseKey{Zone: d.req.SourceZone, Volume: d.req.SourceVolume, Rowkey: d.rowkey}
	}
	if err := tx.Pin(r.ID, p.ID, order.Holder()); err != nil {
		return err
	}
	args, err := json.Marshal(order)
	if err != nil {
		return err
	}
	j.Point, j.BytesTotal, j.NewVolume = &p, p.Size, v.ID
	if err := first(tx.InsertDRJob(j), d.audit(tx, j)); err != nil {
		return err
	}
	if d.step != nil {
		return d.ofStep(tx, v, order, p)
	}
	_, err = tx.EnqueueJob(order.Job(args, p.Size))
	return err
}
