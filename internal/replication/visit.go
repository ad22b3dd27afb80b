package replication

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// visit is one look at a link: it finds out whether the target lacks
// something, and sends it.
type visit struct {
	sender *Sender
	track  *track
	lane   *lane
	line   *line // nil for one that takes no place
	kind   int   // quick or bulk: the place that it takes; guarded by the sender's mu

	policy     block.Protection
	volume     block.Volume
	snapshots  map[block.PointID]block.Snapshot // the tenants', by the name of their point
	entry      block.Entry
	entryHash  string
	link       catalog.Link // as committed
	store      store
	holders    []block.Zone // zones that have, or will have, replicas
	counted    bool         // the driver counts changes
	changes    uint64       // before looked
	looked     time.Time    // when the content was last compared
	dirtySince time.Time
	gone       bool
	released   bool // the link's protection is not configured any more
	paused     bool // its group was taken out of replication
	waits      bool // for other members of its group
	skipped    bool // nothing happened since the last one, see quiet

	remote *Remote
	peer   Target // nil before the target answered
	step   carried
	// content is the target's point that the first step begins with though this zone
	// does not have it; "" for none.
	content   block.PointID
	mirrors   bool            // the target can have bytes by the stores' mirroring
	transport block.Transport // of the step that was taken last
	sent      int64           // by remote before this visit
	over      bool            // the link is removed
}

// run does what is to be done now.
func (v *visit) run(ctx context.Context) error {
	if v.skipped = v.idle(ctx); v.skipped {
		return nil
	}
	if err := v.load(ctx); err != nil {
		return err
	}
	defer v.hangUp(ctx)
	if err := v.unmirror(ctx); err != nil {
		return err
	}
	switch {
	case v.released:
		return v.letGo(ctx)
	case v.gone:
		return v.tellGone(ctx)
	case !v.policy.Enabled || !copyable(v.volume.Status) || v.paused:
		return nil
	case v.volume.RecoveredTo != nil:
		v.link.State = catalog.LinkFenced
		return nil
	}
	if !v.track.tidy {
		if err := v.tidy(ctx); err != nil {
			return err
		}
		v.track.tidy = true
	}
	dirty, err := v.dirty(ctx)
	if err != nil {
		return err
	}
	if dirty && v.dirtySince.IsZero() {
		v.dirtySince = v.looked
	}
	if v.waits = dirty && v.link.Target == nil && v.together() && v.othersBusy(); v.waits {
		return nil
	}
	apart := false
	if !dirty {
		if apart, err = v.apart(ctx); err != nil {
			return err
		}
	}
	told := v.entryHash == v.link.EntryHash
	if !dirty && !apart && told && v.looked.Sub(v.link.Current) < v.heartbeatEvery() {
		v.dirtySince = time.Time{}
		v.lacks(0)
		v.rests()
		return nil
	}
	have, err := v.offer(ctx)
	if block.Is(err, block.Unavailable) && dirty {
		err = errors.Join(err, v.gaugeNow(ctx))
	} else if err == nil {
		err = v.sealKey(ctx, have)
	}
	if err != nil {
		return v.fenced(ctx, err)
	}
	if dirty || apart || have.newest().ID != v.link.Confirmed.ID {
		err = v.update(ctx, have)
	} else if err = v.heartbeat(ctx, v.looked, !told, v.nameless(have)); err == nil {
		v.rests()
	}
	return v.fenced(ctx, err)
}

// load reads all that the visit needs to know from the catalog at one moment.
func (v *visit) load(ctx context.Context) error {
	k := v.track.key
	var ok bool
	v.policy, ok = v.sender.policy(k.protection)
	v.released = !ok
	err := v.sender.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if v.link, err = tx.Link(k.volume, k.protection); err != nil {
			return err
		}
		v.volume, err = tx.Volume(k.volume)
		if v.gone = v.link.Gone || block.Is(err, block.NotFound); v.gone {
			return nil
		}
		if err != nil {
			return err
		}
		v.entry = block.Entry{Volume: v.volume, TypeName: v.volume.TypeName}
		v.entry.Volume.Attachments = nil
		links, err := tx.LinksOf(k.volume)
		if err != nil {
			return err
		}
		v.holders = v.sender.holders(v.volume.TypeID, links)
		if v.entry.Snapshots, err = tx.SnapshotsOf(k.volume); err != nil || v.volume.GroupID == nil {
			return err
		}
		g, err := tx.Group(*v.volume.GroupID)
		v.paused = g.Unreplicated
		return err
	})
	if err != nil || v.gone {
		return err
	}
	v.sender.mu.Lock()
	v.sender.joinLocked(v.track, v.volume.GroupID, v.policy.Destination)
	v.sender.mu.Unlock()
	v.remember()
	if err := v.index(); err != nil {
		return err
	}
	d, err := v.sender.cfg.Backends.Of(v.volume.Backend)
	v.store = store{d, k.volume, v.sender.recall, v.track.key.String()}
	return err
}

// index makes what is looked up in the entry.
func (v *visit) index() error {
	v.snapshots = map[block.PointID]block.Snapshot{}
	for _, s := range v.entry.Snapshots {
		switch s.Status {
		case block.SnapshotDeleting, block.SnapshotError, block.SnapshotErrorDeleting, block.SnapshotDeleted:
		default:
			v.snapshots[block.PointID(s.ID)] = s
		}
	}
	plain := v.entry
	plain.Key = nil // sealed anew it is another text
	text, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	hash := blake3.Sum256(text)
	v.entryHash = hex.EncodeToString(hash[:])
	return nil
}

// named lists the snapshots that the store has of the volume, and then reads
// the tenants' ones anew. In this order: a snapshot's row is there before the
// store has it, so each one that is older than a point which was cut just now
// is known as a tenant's. One that was taken for nobody's would be passed over
// for good, since a copy goes forward only.
func (v *visit) named(ctx context.Context) ([]driver.SnapshotInfo, error) {
	all, err := v.store.driver.Snapshots(ctx, v.volume.ID)
	if err != nil {
		return nil, err
	}
	err = v.sender.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		v.entry.Snapshots, err = tx.SnapshotsOf(v.volume.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, v.index()
}

// remember adds what only the track knows, since it is not worth writing down
// each time.
func (v *visit) remember() {
	v.sender.mu.Lock()
	defer v.sender.mu.Unlock()
	known := v.track.status
	v.dirtySince = known.UnreplicatedSince
	v.link.BytesSent = max(v.link.BytesSent, known.BytesSent)
	if known.ReplicatedTo.After(v.link.Current) {
		v.link.Current = known.ReplicatedTo
	}
}

// copyable reports whether a volume in a status has bytes worth copying.
func copyable(s block.VolumeStatus) bool {
	switch s {
	case block.VolumeCreating, block.VolumeDownloading, block.VolumeError, block.VolumeDeleting,
		block.VolumeErrorDeleting, block.VolumeErrorRestoring:
		return false
	}
	return true
}

// holder is the name of the link's pins.
func (v *visit) holder() string { return holderOf(v.link.Protection) }

func (v *visit) interval() time.Duration {
	if v.policy.Interval <= 0 {
		return defaultInterval
	}
	return max(v.policy.Interval, minInterval)
}

// dirty finds out whether the volume may have something that the target lacks.
func (v *visit) dirty(ctx context.Context) (bool, error) {
	v.looked = v.sender.cfg.Now()
	counter, ok := driver.As[driver.ChangeCounter](v.store.driver)
	if v.counted = ok; ok {
		var err error
		if v.changes, err = counter.Changes(ctx, v.volume.ID); err != nil {
			return false, err
		}
	}
	l := v.link
	if l.Confirmed.ID == "" || l.Target != nil || l.Confirmed.Epoch != v.volume.Epoch || !ok || v.changes != l.Changes {
		return true, nil
	}
	if v.entryHash == l.EntryHash {
		return false, nil
	}
	all, err := v.store.driver.Snapshots(ctx, v.volume.ID) // is there a new one of a tenant's?
	if err != nil {
		return false, err
	}
	newer := false
	for _, s := range all {
		_, tenants := v.snapshots[s.Name]
		if newer && tenants {
			return true, nil
		}
		newer = newer || s.Name == l.Confirmed.ID
	}
	return !newer, nil
}

// offer reaches the target. A connection that was kept may have died unnoticed;
// then a new one is made.
func (v *visit) offer(ctx context.Context) (have Have, err error) {
	o := Offer{Volume: v.link.Volume, Protection: v.link.Protection, Epoch: v.volume.Epoch, Holders: v.holders,
		Gone: v.gone}
	if v.link.Confirmed.ID == "" {
		o.Origin = v.origin()
	}
	if v.gone {
		o.Epoch = v.link.Confirmed.Epoch
		if v.link.Target != nil {
			o.Epoch = max(o.Epoch, v.link.Target.Epoch)
		}
	}
	for fresh := false; ; fresh = true {
		var reused bool
		if v.remote, reused, err = v.sender.connect(ctx, v.lane, v.policy.Destination, fresh); err != nil {
			return have, err
		}
		v.peer, v.sent = v.pace(v.remote), v.remote.Sent()
		if v.sender.wrap != nil {
			v.peer = v.sender.wrap(v.peer)
		}
		have, err = v.peer.Offer(ctx, o)
		if err == nil && o.Origin != nil && have.Whole != v.link.Whole {
			v.noteWhole(have.Whole)
		}
		if err == nil || !reused || !block.Is(err, block.Unavailable) {
			return have, err
		}
		v.hangUp(ctx)
	}
}

// noteWhole notes why all of a recovered volume must travel back.
func (v *visit) noteWhole(why string) {
	v.link.Whole = why
	if why != "" {
		v.sender.cfg.Log.Warn("all of a recovered volume is sent back to its zone, not only what is new",
			"volume", v.link.Volume, "peer", v.policy.Destination, "reason", why)
	}
}

// sealKey puts an encrypted volume's key into the entry, for the target alone:
// the target must be able to use what it gets when this zone is gone.
func (v *visit) sealKey(ctx context.Context, have Have) (err error) {
	if v.volume.Encryption == nil {
		return nil
	}
	if v.sender.cfg.SealKey == nil || len(have.Box) == 0 {
		return block.Errorf(block.Unavailable, "Zone %s takes no keys, and volume %s is encrypted.", v.policy.Destination,
			v.volume.ID)
	}
	v.entry.Key, err = v.sender.cfg.SealKey(ctx, v.volume, have.Box)
	return err
}

// hangUp gives the connection back.
func (v *visit) hangUp(ctx context.Context) {
	if v.remote != nil {
		v.countBytes()
		v.sender.disconnect(ctx, v.lane, v.remote)
		v.remote = nil
	}
}

func (v *visit) countBytes() {
	if v.remote != nil {
		sent := v.remote.Sent()
		v.link.BytesSent += sent - v.sent
		v.sent = sent
	}
}

// fenced passes on that the volume was recovered elsewhere.
func (v *visit) fenced(ctx context.Context, err error) error {
	recovered, ok := fencedBy(err)
	if !ok {
		return err
	}
	v.link.State = catalog.LinkFenced
	if v.sender.cfg.Fenced == nil {
		return err
	}
	f := block.Fence{SourceZone: v.sender.cfg.Zone, Source: v.link.Volume, Recovered: recovered}
	if e := v.sender.cfg.Fenced(ctx, f); e != nil {
		return fmt.Errorf("mark volume as recovered elsewhere: %w", e)
	}
	if e := v.tidy(ctx); e != nil { // of what was under way nothing arrives
		return errors.Join(err, e)
	}
	return err
}

// tellGone has the target note that the volume was deleted, and then forgets
// the link. A target that is beyond our epoch, or does not take our volumes any
// more, needs no telling.
func (v *visit) tellGone(ctx context.Context) error {
	c := v.sender.cfg.Catalog
	k := v.track.key
	if !v.link.Gone {
		err := c.Update(ctx, func(tx *catalog.Tx) error { return tx.VolumeGone(k.volume) })
		if err != nil {
			return err
		}
		v.link.Gone = true
	}
	have, err := v.offer(ctx)
	if err == nil && have.Replica != "" {
		err = v.peer.Gone(ctx)
	}
	if err != nil && !block.Is(err, block.Stale) && !block.Is(err, block.Forbidden) {
		return err
	}
	err = c.Update(ctx, func(tx *catalog.Tx) error {
		if err := v.leaveNothing(tx); err != nil {
			return err
		}
		return tx.DeleteLink(k.volume, k.protection)
	})
	v.over = err == nil
	return err
}

// leaveNothing removes what a visit wrote down of a volume that was deleted meanwhile:
// the volume took everything with it, but not what came after. A volume that is managed
// again has its id, and its own links and cuts.
func (v *visit) leaveNothing(tx *catalog.Tx) error {
	volume := v.track.key.volume
	_, err := tx.Volume(volume)
	if block.Is(err, block.NotFound) {
		err = tx.VolumeGone(volume)
	}
	if err != nil {
		return err
	}
	held, err := tx.PinnedBy(volume, v.holder())
	for _, id := range held {
		if _, err := tx.Unpin(volume, id, v.holder()); err != nil {
			return err
		}
	}
	return err
}

// letGo forgets a link whose protection was taken out of the configuration,
// with the snapshots that were kept for it. The replica stays as it is.
func (v *visit) letGo(ctx context.Context) error {
	if !v.gone {
		l := v.link
		l.Confirmed, l.Target = block.Point{}, nil // so that nothing is kept for it
		if err := v.save(ctx, l, func(*catalog.Tx) error { return nil }); err != nil {
			return err
		}
		if err := v.tidy(ctx); err != nil {
			return err
		}
	}
	k := v.track.key
	err := v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DeleteLink(k.volume, k.protection) })
	v.over = err == nil
	return err
}

// record writes down how the visit ended, if that is news.
func (v *visit) record(ctx context.Context, cause error) error {
	if v.over || v.link.Volume == "" {
		return nil
	}
	before := v.link
	v.link.Error = ""
	switch {
	case cause != nil:
		v.link.Error = strings.TrimSpace(cause.Error())
		if v.link.State != catalog.LinkFenced {
			v.link.State = catalog.LinkError
		}
	case v.link.State == catalog.LinkFenced:
	case v.paused:
		v.link.State = catalog.LinkPaused
	case v.link.Confirmed.ID == "":
		v.link.State = catalog.LinkNew
	default:
		v.link.State = catalog.LinkCurrent
	}
	if v.link.State == before.State && v.link.Error == before.Error {
		return nil
	}
	l := v.link
	return v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		if _, err := tx.Link(l.Volume, l.Protection); err != nil {
			return err
		}
		return tx.PutLink(l)
	})
}
