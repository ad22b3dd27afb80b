package replication

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/churn"
	"kvol/internal/driver"
)

// inbound is the Target over this zone's catalog and stores.
type inbound struct {
	receiver *Receiver
	from     block.Zone
	cancel   func()
	left     <-chan struct{} // closed when the source is not waited for any more; nil for never

	// From Offer on.
	key        linkKey
	epoch      uint64
	holders    []block.Zone
	gone       bool
	protection block.Protection
	release    func() // gives the claim back
	held       *atomic.Bool

	// From Begin to the end of the step.
	step     *block.Step
	again    bool // the step was begun before, by this source or another one
	replica  block.Replica
	driver   driver.Driver
	device   driver.Device
	base     driver.Reader // nil for a full copy, and where the crew has it
	crew     *crew         // nil where runs are carried out one after the other
	sum      Sum
	tally    churn.Tally
	offset   int64 // end of what was written
	unmarked int64 // bytes that were written since the last mark

	closing *sync.WaitGroup // what the last step left open; nil for nothing
	parted  sync.WaitGroup  // what is closed of volumes that the source has left
}

// Offer implements Target.
func (i *inbound) Offer(ctx context.Context, o Offer) (Have, error) {
	if err := i.Close(); err != nil {
		return Have{}, err
	}
	p, err := i.receiver.protection(i.from, o.Protection)
	if err != nil {
		return Have{}, err
	}
	k := linkKey{p.SourceZone, o.Volume, o.Protection}
	held := &atomic.Bool{}
	held.Store(true)
	release, err := i.receiver.claim(ctx, k, func() {
		if held.Load() {
			i.cancel()
		}
	})
	if err != nil {
		return Have{}, err
	}
	i.key, i.epoch, i.protection, i.release, i.held = k, o.Epoch, p, release, held
	i.holders, i.gone = o.Holders, o.Gone
	have := Have{Box: i.receiver.cfg.Box}
	if o.Origin != nil {
		if have.Whole, err = i.beginWithOwn(ctx, o); err != nil {
			return Have{}, err
		}
	}
	whole, told := have.Whole, true
	err = i.catalog().View(ctx, func(tx *catalog.Tx) error {
		rep, found, err := i.admit(tx)
		have.Mirror = i.canMirror(rep, found)
		if err != nil || !found {
			return err
		}
		told = slices.Equal(rep.Holders, o.Holders)
		points, err := tx.Points(rep.ID)
		if err != nil {
			return err
		}
		progress, err := tx.StepProgress(rep.ID)
		have = Have{Replica: rep.ID, Epoch: rep.Epoch, Points: worthTelling(points), Pending: rep.Pending,
			Offset: max(0, progress.Offset), Whole: whole, Box: have.Box, Mirror: have.Mirror}
		return err
	})
	if err == nil && !told && o.Holders != nil {
		err = i.noteHolders(ctx)
	}
	return have, err
}

// admit is the Receiver's for what was offered. That another zone took the
// volume over is no reason to keep a replica of one that was deleted.
func (i *inbound) admit(tx *catalog.Tx) (rep block.Replica, found bool, err error) {
	rep, found, err = i.receiver.admit(tx, i.key, i.epoch)
	by, fenced := fencedBy(err)
	if i.gone && found && fenced && by.Zone != i.receiver.cfg.Zone {
		return rep, found, nil
	}
	return rep, found, err
}

// noteHolders keeps who else has replicas, to be asked before a recovery.
func (i *inbound) noteHolders(ctx context.Context) error {
	return i.catalog().Update(ctx, func(tx *catalog.Tx) error {
		rep, found, err := i.admit(tx)
		if err != nil || !found {
			return err
		}
		rep.Holders = i.holders
		return tx.UpdateReplica(rep)
	})
}

// maxTold is how many points without names are told to a source: its base is
// one of the newest.
const maxTold = 256

func worthTelling(points []block.Point) []block.Point {
	var told []block.Point
	for n, p := range points {
		if p.Name != "" || n >= len(points)-maxTold {
			told = append(told, p)
		}
	}
	return told
}

// Begin implements Target. The step is written down before anything else is.
func (i *inbound) Begin(ctx context.Context, s block.Step) (int64, error) {
	if err := i.check(s); err != nil {
		return 0, err
	}
	if err := i.endStep(); err != nil {
		return 0, err
	}
	var rep block.Replica
	var progress catalog.Progress
	err := i.catalog().Update(ctx, func(tx *catalog.Tx) (err error) {
		i.again = false
		rep, progress, err = i.begin(tx, s)
		return err
	})
	if err != nil {
		return 0, err
	}
	i.replica = rep
	if i.driver, err = i.receiver.driver(rep); err != nil {
		return 0, err
	}
	if progress.Offset < 0 {
		if err := i.rewind(ctx, s); err != nil {
			return 0, err
		}
		progress.Offset = 0
		if err := i.note(ctx, progress); err != nil {
			return 0, err
		}
	} else if progress.Offset > 0 {
		if err := i.clearAfter(ctx, s, progress.Offset); err != nil {
			return 0, err
		}
	}
	i.offset, i.sum, i.unmarked = progress.Offset, SumFrom(progress.Sum), 0
	i.tally = churn.Tally{PointStats: progress.Stats}
	return i.offset, i.open(ctx, s)
}

// check refuses steps that make no sense.
func (i *inbound) check(s block.Step) error {
	t := s.Target
	switch {
	case i.release == nil:
		return block.Errorf(block.Invalid, "a step began before a volume was offered")
	case s.Epoch != i.epoch || t.Epoch != i.epoch && !i.older(t) || t.Volume != i.key.volume:
		return block.Errorf(block.Invalid, "a step is of another volume or epoch than was offered")
	case t.ID == "" || t.ID == s.Base.ID || t.Size <= 0 || t.Size%driver.BlockSize != 0 || t.Size < s.Base.Size:
		return block.Errorf(block.Invalid, "the step to point %q makes no sense", t.ID)
	}
	return nil
}

// older reports whether a point is of an epoch that is over, and may come still:
// who sends replicas on has such.
func (i *inbound) older(p block.Point) bool { return i.protection.Via != "" && p.Epoch < i.epoch }

// begin writes the step down and says where it goes on.
func (i *inbound) begin(tx *catalog.Tx, s block.Step) (rep block.Replica, p catalog.Progress, err error) {
	rep, found, err := i.receiver.admit(tx, i.key, s.Epoch)
	if err != nil {
		return rep, p, err
	}
	if !found {
		rep = block.Replica{ID: block.VolumeID(block.NewID()), SourceZone: i.key.zone, Source: i.key.volume,
			Protection: i.key.protection, Backend: i.protection.Backup.Name, Epoch: s.Epoch, Holders: i.holders}
		if err := tx.InsertReplica(rep); err != nil {
			return rep, p, err
		}
	}
	if s.Base.ID != "" {
		if _, p.Sum, err = tx.Point(rep.ID, s.Base.ID); err != nil {
			return rep, p, err
		}
	}
	_, _, err = tx.Point(rep.ID, s.Target.ID)
	switch {
	case err == nil:
		return rep, p, block.Errorf(block.Conflict, "Recovery point %s is committed already.", s.Target.ID)
	case !block.Is(err, block.NotFound):
		return rep, p, err
	case s.Target.Sequence <= rep.Newest.Sequence:
		return rep, p, block.Errorf(block.Invalid, "Recovery point %s is older than the newest.", s.Target.ID)
	}
	switch {
	case rep.Pending != nil && sameStep(*rep.Pending, s):
		i.again = true
		if p, err = tx.StepProgress(rep.ID); err != nil {
			return rep, p, err
		}
		if p.Offset == 0 {
			p.Offset = catalog.Rewind // what was written is in no sum yet
		}
	case rep.Pending == nil && s.Base.ID != "" && s.Base.ID == rep.Newest.ID:
		p.Offset = 0 // nothing was written since the base
	case i.receiver.broken.pendingStep && s.Base.ID != "":
		p.Offset = 0
	default:
		p.Offset = catalog.Rewind
	}
	rep.Epoch, rep.Pending, rep.DeletedAt = s.Epoch, &s, time.Time{} // who sends it has it
	if err := tx.UpdateReplica(rep); err != nil {
		return rep, p, err
	}
	return rep, p, tx.SetStepProgress(rep.ID, p)
}

// open opens what the step writes to and what it is compared with.
func (i *inbound) open(ctx context.Context, s block.Step) error {
	depth := depthOf(i.driver)
	var base *later
	if s.Base.ID != "" {
		base = &later{driver: i.driver, ref: i.at(s.Base)}
	}
	know, known := i.recall(s, depth)
	err := atOnce(depth, func() error {
		if base == nil || known {
			return nil
		}
		_, err := base.get(ctx)
		return err
	}, func() (err error) {
		if i.device, err = i.driver.OpenVolume(ctx, i.replica.ID); err == nil && i.device.Size() < s.Target.Size {
			err = i.driver.ExtendVolume(ctx, i.replica.ID, s.Target.Size)
		}
		return err
	})
	switch {
	case err != nil:
		return errors.Join(err, base.close(), i.endStep())
	case depth > 1:
		i.crew = newCrew(i.device, base, know, depth)
	case base != nil:
		i.base = base.r
	}
	i.step = &s
	return nil
}

// recall is what is remembered of the step's base, in a store that is far away.
func (i *inbound) recall(s block.Step, depth int) (know *recalled, known bool) {
	if depth == 1 {
		return nil, false
	}
	base := s.Base.ID
	if i.offset > 0 {
		base = "" // who wrote what lies before remembers it, and nobody else
	}
	know, known = i.receiver.recall.begin(string(i.replica.ID), base)
	if s.Base.ID == "" && s.Target.Size > recallWhole {
		return nil, false
	}
	return know, known
}

// Write implements Target.
func (i *inbound) Write(ctx context.Context, r Run) error {
	switch {
	case i.step == nil:
		return block.Errorf(block.Invalid, "bytes came without a step")
	case r.Off < i.offset || r.Off%driver.BlockSize != 0 || r.Len <= 0 || r.Len > i.step.Target.Size-r.Off ||
		r.Len%driver.BlockSize != 0 || (r.Data != nil && int64(len(r.Data)) != r.Len):
		return block.Errorf(block.Invalid, "bytes %d to %d came out of turn", r.Off, r.End())
	}
	carry := i.carry
	if i.crew != nil {
		carry = i.crew.add
	}
	if err := carry(ctx, r); err != nil {
		return err
	}
	if r.Data != nil {
		i.unmarked += r.Len
	}
	i.offset = r.End()
	if i.unmarked < i.receiver.markEvery {
		return ctx.Err()
	}
	i.unmarked = 0
	if err := i.settle(ctx); err != nil {
		return err
	}
	if err := i.device.Flush(); err != nil {
		return err
	}
	return i.note(ctx, catalog.Progress{Offset: i.offset, Sum: i.sum.Bytes(), Stats: i.tally.PointStats})
}

// carry carries a run out.
func (i *inbound) carry(ctx context.Context, r Run) error {
	if i.base != nil {
		if err := eachData(ctx, i.base, r.Off, r.Len, func(off int64, p []byte) { i.replace(r, off, p) }); err != nil {
			return err
		}
	}
	i.tally.Wrote(r.Len, cmp.Or(r.Sent, r.Len), r.Data != nil)
	if r.Data == nil {
		return i.device.Zero(r.Off, r.Len)
	}
	i.sum.Add(r.Off, r.Data)
	_, err := i.device.WriteAt(r.Data, r.Off)
	return err
}

// settle waits until all runs are carried out.
func (i *inbound) settle(ctx context.Context) error {
	if i.crew == nil {
		return nil
	}
	plus, less, tally, err := i.crew.drain(ctx)
	i.sum = i.sum.Plus(plus).Minus(less)
	i.tally.Plus(tally)
	return err
}

// replace takes out what the base has in a run.
func (i *inbound) replace(r Run, off int64, before []byte) {
	i.sum.Sub(off, before)
	if r.Data == nil {
		i.tally.Over(off, before, nil)
		return
	}
	i.tally.Over(off, before, r.Data[off-r.Off:][:len(before)])
}

// Commit implements Target.
func (i *inbound) Commit(ctx context.Context, c Commit) (block.Point, error) {
	if i.step == nil {
		return block.Point{}, block.Errorf(block.Invalid, "a commit came without a step")
	}
	if c.Mirror > 0 {
		if done, err := i.bring(ctx, c.Mirror); err != nil || !done {
			return block.Point{}, err
		}
	}
	if err := i.settle(ctx); err != nil {
		return i.step.Target, err
	}
	var know *recalled
	if i.crew != nil {
		know = i.crew.know
	}
	s, p := *i.step, i.step.Target
	p.Root, p.Parent = i.sum.Root(p.Size), s.Base.ID
	if err := i.device.Flush(); err != nil {
		return p, errors.Join(err, i.endStep())
	}
	if p.Root != c.Root && !i.receiver.broken.rootCheck {
		if doubt := i.receiver.cfg.Doubt; doubt != nil {
			doubt(i.replica.ID)
		}
		return p, errors.Join(block.Errorf(block.Corrupt,
			"point %s came out with root %s, and %s was meant; it is taken back", p.ID, p.Root, c.Root),
			i.endStep(), i.takeBack(ctx, s))
	}
	if i.crew == nil {
		if err := i.endStep(); err != nil {
			return p, err
		}
	}
	err := i.name(ctx, p)
	if err == nil {
		err = i.catalog().Update(ctx, func(tx *catalog.Tx) error { return i.commit(tx, s, p, c.Entry) })
	}
	if err != nil {
		return p, errors.Join(err, i.endStep())
	}
	know.done(p.ID)
	i.receiver.noteError(i.key, nil)
	i.observe(p.At)
	i.tidyUp(ctx)
	return p, nil
}

// name has the driver name what was written. One that has the name already may be of an
// earlier attempt, and of before all was there: a store that did not answer in time may
// have named it when it did.
func (i *inbound) name(ctx context.Context, p block.Point) error {
	if i.again {
		if err := deleteSnapshots(ctx, i.driver, i.replica.ID, []block.PointID{p.ID}); err != nil {
			return err
		}
	}
	return i.driver.CreateSnapshot(ctx, i.at(p))
}

// commit makes the point visible, unless somebody was promoted meanwhile.
func (i *inbound) commit(tx *catalog.Tx, s block.Step, p block.Point, entry block.Entry) error {
	rep, found, err := i.receiver.admit(tx, i.key, s.Epoch)
	if err != nil {
		return err
	}
	if !found || rep.Pending == nil || !sameStep(*rep.Pending, s) {
		return block.Errorf(block.Conflict, "the step to point %s is not under way any more", p.ID)
	}
	if err := tx.InsertPoint(rep.ID, p, i.sum.Bytes()); err != nil {
		return err
	}
	if err := i.appraise(tx, rep, s, p); err != nil {
		return err
	}
	rep.Newest, rep.Current, rep.Entry, rep.Pending = p, p.At, entry, nil
	return tx.UpdateReplica(rep)
}

// note writes down how far the step got.
func (i *inbound) note(ctx context.Context, p catalog.Progress) error {
	return i.catalog().Update(ctx, func(tx *catalog.Tx) error { return tx.SetStepProgress(i.replica.ID, p) })
}

func (i *inbound) catalog() *catalog.Catalog { return i.receiver.cfg.Catalog }

func (i *inbound) at(p block.Point) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: i.replica.ID, Name: p.ID}
}
