package recovery

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/job"
)

// JobKind names the handler of both kinds of recovery.
const JobKind = "dr.recover"

// ReleaseStep marks a job of JobKind that only takes the pin of a failed one
// off.
const ReleaseStep = "release"

// Order is what a job of JobKind works by. All that a crash must not change is
// in it: the point and the new volume's id were chosen before it was enqueued.
type Order struct {
	Kind    block.DRKind   `json:"kind"`
	Rowkey  int64          `json:"rowkey"`
	Replica block.VolumeID `json:"replica"`
	Backup  string         `json:"backup"` // backend of the replica
	Point   block.PointID  `json:"point"`
	Volume  block.VolumeID `json:"volume"` // the new one
	// Zoned says that the volume's availability zone was asked for: it is made in no
	// other one.
	Zoned bool `json:"zoned,omitempty"`
	// Planned says that the source waits for the end: the right to write is taken
	// over with it, if the source's epoch is SourceEpoch still.
	Planned     bool   `json:"planned,omitempty"`
	SourceEpoch uint64 `json:"source_epoch,omitempty"`
	// Bid is the epoch that other zones granted for it; 0 where none was asked.
	Bid uint64 `json:"bid,omitempty"`
	// Operation and Step name the step of an operation that this is; "" for none.
	Operation string `json:"operation,omitempty"`
	Step      int    `json:"step,omitempty"`
	// Lease is set where the source zone may hold a lease of this zone: then too
	// the right to write is taken over at the end, when the lease is over.
	Lease *LeaseKey `json:"lease,omitempty"`
}

// Job is the job that carries an order out, which is args as JSON. It reads the replica
// on one backend and makes the volume on another.
func (o Order) Job(args json.RawMessage, total int64) block.Job {
	return block.Job{Kind: JobKind, Subject: string(o.Volume), Beside: o.Backup, Args: args, Total: total}
}

// LeaseKey names a takeover that has to wait for a lease.
type LeaseKey struct {
	Zone   block.Zone     `json:"zone"` // the source
	Volume block.VolumeID `json:"volume"`
	Rowkey int64          `json:"rowkey"` // of the recovery
}

// KeepOrigin notes what a recovered volume continues, and pins what it begins
// as. A volume of another size than the point begins as something else.
func KeepOrigin(tx *catalog.Tx, v *block.Volume, r block.Replica, p block.Point) error {
	if p.Size != v.Size*block.GiB {
		return nil
	}
	_, sum, err := tx.Point(r.ID, p.ID)
	if err != nil {
		return err
	}
	v.RecoveredFrom = &block.Origin{Zone: r.SourceZone, Volume: r.Source, Point: p, Sum: sum, Began: tx.Now}
	if err := tx.InsertCut(v.ID, p.ID); err != nil {
		return err
	}
	return tx.Pin(v.ID, p.ID, block.OriginHolder)
}

// Self is the zone that takes volumes over: its name, and the index by which it
// draws epochs.
type Self struct {
	Zone  block.Zone
	Index int
}

// Promote takes the right to write a replica's source over for a volume, by the
// epoch of a bid that other zones granted; 0 where there was none to be asked.
// It is refused as a Conflict where another zone was quicker. The caller writes
// the volume's row.
func (z Self) Promote(tx *catalog.Tx, v *block.Volume, replica block.VolumeID, p block.PointID, bid uint64) error {
	r, err := tx.Replica(replica)
	if err != nil {
		return err
	}
	if err := z.stands(tx, r, bid); err != nil {
		return err
	}
	v.Epoch, err = tx.RaiseEpoch(replica,
		block.Recovered{Zone: z.Zone, Volume: v.ID, Epoch: bid, At: tx.Now, Point: p}, z.Index)
	if v.RecoveredFrom != nil {
		v.RecoveredFrom.Epoch = v.Epoch
	}
	return err
}

// stands makes sure that a bid of this zone was not outdone since it was granted.
func (z Self) stands(tx *catalog.Tx, r block.Replica, bid uint64) error {
	bids, err := tx.BidsFor(r.SourceZone, r.Source)
	if err != nil {
		return err
	}
	own := uint64(0)
	for _, b := range bids {
		if b.Zone == z.Zone {
			own = b.Epoch
		}
	}
	f, taken, err := tx.Fence(r.SourceZone, r.Source)
	if err != nil {
		return err
	}
	here := taken && f.Recovered.Zone == z.Zone
	switch {
	case len(bids) > 0 && bids[0].Zone != z.Zone:
		return job.GiveUp(block.Errorf(block.Conflict, "Zone %s takes volume %s of zone %s over; it asked at %s.",
			bids[0].Zone, r.Source, r.SourceZone, bids[0].At.UTC().Format(time.RFC3339)))
	case own < bid && !here || taken && !here && f.Recovered.Epoch > own:
		return job.GiveUp(block.Errorf(block.Conflict, "Volume %s of zone %s was taken over by zone %s meanwhile.",
			r.Source, r.SourceZone, f.Recovered.Zone))
	}
	return nil
}

// Holder names the pin that keeps the order's point while the job is under
// way.
func (o Order) Holder() string { return fmt.Sprintf("%s/%d", o.Kind, o.Rowkey) }

// Newest returns a replica's newest committed point; Unavailable where none
// was committed yet. Points that were begun and not committed never count.
func Newest(r block.Replica) (block.Point, error) {
	if r.Newest.ID == "" {
		return block.Point{}, block.Errorf(block.Unavailable,
			"Volume %s of zone %s has no recovery point yet.", r.Source, r.SourceZone)
	}
	return r.Newest, nil
}

// OfSnapshot returns the committed point of a tenant's snapshot among a
// replica's points; Unavailable where the snapshot was not replicated yet.
func OfSnapshot(r block.Replica, points []block.Point, id block.SnapshotID) (block.Point, error) {
	i := slices.IndexFunc(points, func(p block.Point) bool { return p.ID == block.PointID(id) })
	if i < 0 {
		return block.Point{}, block.Errorf(block.Unavailable,
			"Snapshot %s of zone %s is not replicated yet.", id, r.SourceZone)
	}
	return points[i], nil
}

// Knows reports whether a replica's entry names a tenant's snapshot, replicated
// or not.
func Knows(r block.Replica, id block.SnapshotID) bool {
	return slices.ContainsFunc(r.Entry.Snapshots, func(s block.Snapshot) bool { return s.ID == id })
}

// Volume is the new volume of a request, in status creating: the replica's
// entry in the tenant's hands, with the size of the point. It gets no status
// of the source and no link to things that only the source has.
func Volume(id block.VolumeID, req block.DRRequest, r block.Replica, p block.Point) block.Volume {
	from := r.Entry.Volume
	v := block.Volume{
		ID: id, Project: req.Project, User: from.User, Name: from.Name, Description: from.Description,
		Size: (p.Size + block.GiB - 1) / block.GiB, Status: block.VolumeCreating, TypeID: req.DestinationType,
		Bootable: req.Bootable || from.Bootable, Multiattach: from.Multiattach,
		Metadata: maps.Clone(from.Metadata), ImageMetadata: maps.Clone(from.ImageMetadata),
		ReplicationStatus: "disabled", Epoch: 1,
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	return v
}
