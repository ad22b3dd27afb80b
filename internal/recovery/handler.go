package recovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// Config is what a Handler works with. Catalog and Backends are needed.
type Config struct {
	Catalog  *catalog.Catalog
	Backends *driver.Set
	Self     Self // this zone
	// Changed, if set, is called after a commit that changed a job of the kvol
	// API. It must not block.
	Changed func()
	// Tell, if set, tells the source zone that its volume lives on here, before
	// the new one can be opened. It does what it can within its own limit of time:
	// a zone that can't be reached hears of it when it asks.
	Tell func(context.Context, block.Fence)
	// Elsewhere, if set, finds another backend for a new volume that could not be
	// made on its own; moved says that it did.
	Elsewhere func(ctx context.Context, j block.JobID, o Order, v block.Volume, cause error) (moved bool, err error)
	// LeaseLeft is how long a takeover has to wait for a lease; needed where
	// orders have one.
	LeaseLeft func(LeaseKey) time.Duration
	// Made, if set, is called when a new volume is available. It must not block.
	Made func(block.VolumeID)
	// Ended, if set, is told of the end of an order that is a step of an operation,
	// in the transaction that ends it. The evidence is nil for one that failed.
	Ended func(tx *catalog.Tx, o Order, row block.DRJob, e *Evidence) error
}

// Evidence is what a recovery leaves behind: what shows that the new volume has
// the bytes of the point.
type Evidence struct {
	Point    block.PointID  `json:"point"`
	At       time.Time      `json:"at"` // the instant on the source's clock that was recovered
	Root     block.RootHash `json:"root"`
	Way      string         `json:"way"`      // "clone" or "copy"
	Verified string         `json:"verified"` // how the bytes were checked
	Bytes    int64          `json:"bytes"`    // of the point
	Notes    []string       `json:"notes,omitempty"`
}

// Handler fills the volumes of recoveries. It implements job.Handler.
type Handler struct{ cfg Config }

// New makes a Handler.
func New(cfg Config) *Handler { return &Handler{cfg: cfg} }

// Retries are short at first: somebody waits for a recovery.
func (h *Handler) Retries() job.Retries {
	return job.Retries{Attempts: 12, First: 200 * time.Millisecond, Max: time.Minute}
}

// Run fills the volume, and ends the job of the kvol API and the volume's
// creation in one transaction. Each part may be repeated: the order names the
// point and the volume, so a second run can make no other.
func (h *Handler) Run(ctx context.Context, t *job.Task) error {
	var o Order
	if err := t.Args(&o); err != nil {
		return err
	}
	row, v, err := h.start(ctx, o)
	if err != nil {
		return err
	}
	if row.End.IsZero() {
		if o.Lease != nil {
			h.cfg.LeaseLeft(*o.Lease) // from now on it does not grow
		}
		e := Evidence{Point: row.Point.ID, At: row.Point.At, Root: row.Point.Root, Bytes: row.Point.Size, Notes: row.Notes}
		if err := h.fill(ctx, t.Progress, o, v, &e); err != nil {
			return h.elsewhere(ctx, t, o, v, err)
		}
		if err := h.awaitLease(ctx, t, o, &e); err != nil {
			return err
		}
		t.Evidence(e)
		if err := h.tell(ctx, row, o); err != nil {
			return err
		}
		if err := h.finish(ctx, o, &e); err != nil {
			return h.judge(ctx, o, v, err)
		}
		if o.Lease != nil { // there was no fence to tell of before
			if err := h.tell(ctx, row, o); err != nil {
				return err
			}
		}
	}
	return h.release(ctx, o)
}

// start marks the job of the kvol API as running and returns it and the volume.
func (h *Handler) start(ctx context.Context, o Order) (row block.DRJob, v block.Volume, err error) {
	err = h.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if row, err = tx.DRJob(o.Kind, o.Rowkey); err != nil {
			return err
		}
		if !row.End.IsZero() {
			return nil
		}
		if v, err = tx.Volume(o.Volume); err != nil {
			return err
		}
		row.Status = block.DRRunning
		return tx.UpdateDRJob(row)
	})
	if block.Is(err, block.NotFound) {
		return row, v, job.GiveUp(block.Wrap(block.NotFound, err, "The new volume was deleted before it was filled."))
	}
	if err == nil {
		h.changed()
	}
	return row, v, err
}

// fill puts the point's bytes into the volume, and checks them.
func (h *Handler) fill(ctx context.Context, progress Progress, o Order, v block.Volume, e *Evidence) error {
	from, err := h.cfg.Backends.Of(o.Backup)
	if err != nil {
		return err
	}
	to, err := h.cfg.Backends.Of(v.Backend)
	if err != nil {
		return err
	}
	ref, size := driver.SnapshotRef{Volume: o.Replica, Name: o.Point}, v.Size*block.GiB
	if h.cfg.Backends.Shared(o.Backup, v.Backend) {
		e.Way = "clone"
		progress(e.Way, 0, e.Bytes)
		if err := from.CloneSnapshot(ctx, v.ID, ref, size); err != nil {
			return err
		}
		e.Verified = "size; the root hash was checked when the point was committed"
		return first(checkSize(ctx, to, v.ID, size), func() error { return keepBeginning(ctx, to, v) })
	}
	e.Way, e.Verified = "copy", "every byte compared with the point, whose root hash was checked when it was committed"
	err = copying{from: from, to: to, ref: ref, volume: v.ID, size: size}.run(ctx, progress)
	return first(err, func() error { return keepBeginning(ctx, to, v) })
}

// first returns err, or else what next returns.
func first(err error, next func() error) error {
	if err != nil {
		return err
	}
	return next()
}

// keepBeginning names what a recovered volume began as by its point, so that
// the zone from which it came can be sent only what is different since. Nobody
// has written to the volume yet.
func keepBeginning(ctx context.Context, d driver.Driver, v block.Volume) error {
	if v.RecoveredFrom == nil {
		return nil
	}
	return d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: v.ID, Name: v.RecoveredFrom.Point.ID})
}

// tell has the source refuse writes before they are taken here, where it can be
// reached. In a planned failover it refuses them already.
func (h *Handler) tell(ctx context.Context, row block.DRJob, o Order) error {
	if h.cfg.Tell == nil || o.Planned || o.Kind != block.DRRecovery {
		return nil
	}
	var f block.Fence
	var found bool
	err := h.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		f, found, err = tx.Fence(row.Request.SourceZone, row.Request.SourceVolume)
		return err
	})
	if err == nil && found {
		h.cfg.Tell(ctx, f)
	}
	return err
}

// finish makes the volume available and the job of the kvol API a success.
func (h *Handler) finish(ctx context.Context, o Order, e *Evidence) error {
	err := h.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		row, err := tx.DRJob(o.Kind, o.Rowkey)
		if err != nil {
			return err
		}
		if !row.End.IsZero() {
			return nil // the source took the volume back
		}
		if o.Planned || o.Lease != nil {
			if err := h.takeOver(tx, o); err != nil {
				return err
			}
		}
		if _, err := tx.MoveVolume(o.Volume, block.Done); err != nil {
			return err
		}
		row.Status, row.Message, row.End, row.BytesDone = block.DRSuccess, "OK", tx.Now, row.BytesTotal
		if err := tx.UpdateDRJob(row); err != nil {
			return err
		}
		if err := audit(tx, row); err != nil {
			return err
		}
		return h.ended(tx, o, row, e)
	})
	if err == nil {
		h.changed()
		if h.cfg.Made != nil {
			h.cfg.Made(o.Volume)
		}
	}
	return err
}

// awaitLease waits until no host in the source zone can write any more.
func (h *Handler) awaitLease(ctx context.Context, t *job.Task, o Order, e *Evidence) error {
	if o.Lease == nil {
		return nil
	}
	left := h.cfg.LeaseLeft(*o.Lease)
	if left <= 0 {
		return nil
	}
	t.Progress("waiting for the lease of zone "+string(o.Lease.Zone)+" to end", e.Bytes, e.Bytes)
	e.Notes = append(e.Notes, fmt.Sprintf("waited %s for the lease of zone %s to end",
		left.Round(time.Millisecond), o.Lease.Zone))
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// takeOver promotes the volume at the end, unless its source was recovered
// otherwise meanwhile, or, where the failover is planned, has a newer point.
func (h *Handler) takeOver(tx *catalog.Tx, o Order) error {
	r, err := tx.Replica(o.Replica)
	if err != nil {
		return err
	}
	p, _, err := tx.Point(o.Replica, o.Point)
	if err != nil {
		return err
	}
	if r.Epoch != o.SourceEpoch || o.Planned && r.Newest.Root != p.Root {
		return job.GiveUp(block.Errorf(block.Conflict, "Volume %s of zone %s was recovered or written to meanwhile.",
			r.Source, r.SourceZone))
	}
	damaged, err := tx.DamagedPoints(o.Replica)
	if err != nil {
		return err
	}
	if o.Planned && damaged[o.Point] != "" { // found since it began; the source has the volume whole
		return job.GiveUp(block.Errorf(block.Conflict, "Recovery point %s of volume %s is damaged here.", o.Point, r.Source))
	}
	v, err := tx.Volume(o.Volume)
	if err != nil {
		return err
	}
	if err := h.cfg.Self.Promote(tx, &v, o.Replica, o.Point, o.Bid); err != nil {
		return err
	}
	return tx.UpdateVolume(v)
}

// elsewhere has the volume made on another backend, or decides whether it helps to
// try again.
func (h *Handler) elsewhere(ctx context.Context, t *job.Task, o Order, v block.Volume, cause error) error {
	var replica errReplica
	if h.cfg.Elsewhere == nil || ctx.Err() != nil || errors.As(cause, &replica) {
		return h.judge(ctx, o, v, cause)
	}
	moved, err := h.cfg.Elsewhere(ctx, t.Job.ID, o, v, cause)
	if err != nil {
		cause = errors.Join(cause, err)
	}
	if !moved {
		return h.judge(ctx, o, v, cause)
	}
	return job.Snooze(0, cause)
}

// judge decides whether it helps to try again. A volume whose row went while
// its bytes came leaves no bytes behind.
func (h *Handler) judge(ctx context.Context, o Order, v block.Volume, cause error) error {
	err := h.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		_, err := tx.Volume(o.Volume)
		return err
	})
	if block.Is(err, block.NotFound) {
		to, err := h.cfg.Backends.Of(v.Backend)
		if err == nil {
			err = to.DeleteVolume(ctx, v.ID)
		}
		if err != nil && !block.Is(err, block.NotFound) {
			return err
		}
		return job.GiveUp(block.Wrap(block.NotFound, cause, "The new volume was deleted before it was filled."))
	}
	switch block.KindOf(cause) {
	case block.NotFound, block.Corrupt, block.Invalid:
		return job.GiveUp(cause)
	}
	return cause
}

// release takes the order's pin off the point, and deletes the point where it
// was only kept for the order.
func (h *Handler) release(ctx context.Context, o Order) error {
	var last bool
	err := h.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) (err error) {
		last, err = tx.Unpin(o.Replica, o.Point, o.Holder())
		return err
	})
	if err != nil || !last {
		return err
	}
	d, err := h.cfg.Backends.Of(o.Backup)
	if err != nil {
		return err
	}
	err = d.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: o.Replica, Name: o.Point})
	if block.Is(err, block.NotFound) {
		return nil
	}
	return err
}

// GaveUp fails the job of the kvol API and the volume, in the transaction that
// fails the job. The pin is left to a job of its own, since a driver may have
// to be asked.
func (h *Handler) GaveUp(tx *catalog.Tx, j block.Job, cause error) error {
	var o Order
	if err := json.Unmarshal(j.Args, &o); err != nil {
		return err
	}
	row, err := tx.DRJob(o.Kind, o.Rowkey)
	if err != nil {
		return err
	}
	if !row.End.IsZero() {
		return nil // it succeeded, and only its pin could not be taken off
	}
	message, ok := block.UserMessage(cause)
	if !ok {
		message = "The volume could not be filled."
	}
	row.Status, row.Message, row.End, row.BytesDone = block.DRFail, message, tx.Now, j.Done
	if err := tx.UpdateDRJob(row); err != nil {
		return err
	}
	if err := audit(tx, row); err != nil {
		return err
	}
	if err := h.ended(tx, o, row, nil); err != nil {
		return err
	}
	if err := letGo(tx, o, row); err != nil {
		return err
	}
	_, err = tx.MoveVolume(o.Volume, block.Fail)
	if err != nil && !block.Is(err, block.NotFound) && !block.Is(err, block.Conflict) {
		return err
	}
	_, err = tx.EnqueueJob(
		block.Job{Kind: JobKind, Subject: j.Subject, Backend: o.Backup, Args: j.Args, Step: ReleaseStep},
	)
	return err
}

// letGo has other zones take the volume over that this one could not: what was
// to be made of it is given up for good, and the bid for it is over. Where the
// epoch rose already, it stays risen.
func letGo(tx *catalog.Tx, o Order, row block.DRJob) error {
	if o.Kind != block.DRRecovery {
		return nil
	}
	if err := tx.PutFailedRecovery(o.Volume); err != nil {
		return err
	}
	return tx.DropBid(catalog.Bid{SourceZone: row.Request.SourceZone, Source: row.Request.SourceVolume,
		Zone: row.Request.Destination, Epoch: o.Bid})
}

func (h *Handler) ended(tx *catalog.Tx, o Order, row block.DRJob, e *Evidence) error {
	if o.Operation == "" || h.cfg.Ended == nil {
		return nil
	}
	return h.cfg.Ended(tx, o, row, e)
}

func (h *Handler) changed() {
	if h.cfg.Changed != nil {
		h.cfg.Changed()
	}
}

// audit notes what a job came to.
func audit(tx *catalog.Tx, row block.DRJob) error {
	params := "new_volume=" + string(row.NewVolume)
	if row.Point != nil {
		params += "&point=" + string(row.Point.ID) + "&root=" + row.Point.Root.String()
	}
	return tx.InsertAudit(block.Audit{Call: string(row.Request.Kind) + " ends", Params: params, Rowkey: row.Rowkey,
		Project: row.Request.Project, Outcome: string(row.Status) + ": " + row.Message})
}
