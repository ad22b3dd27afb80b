package replication

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// groupKey names the members of a group that go to one zone.
type groupKey struct {
	group block.GroupID
	zone  block.Zone
}

// waitTogether is how soon a volume is looked at again whose group can't be cut
// yet, since others of it are still sent.
const waitTogether = 50 * time.Millisecond

// joinLocked notes which group a track's volume is in.
func (s *Sender) joinLocked(t *track, id *block.GroupID, zone block.Zone) {
	var k groupKey
	if id != nil {
		k = groupKey{*id, zone}
	}
	if t.group == k {
		return
	}
	s.leaveLocked(t)
	if t.group = k; k.group == "" {
		return
	}
	if s.groups[k] == nil {
		s.groups[k] = map[*track]bool{}
	}
	s.groups[k][t] = true
}

// leaveLocked forgets what group a track's volume is in.
func (s *Sender) leaveLocked(t *track) {
	delete(s.groups[t.group], t)
	if len(s.groups[t.group]) == 0 {
		delete(s.groups, t.group)
	}
	t.group = groupKey{}
}

// together reports whether the volume's points are cut with those of its group:
// once its first copy is there, in stores that can name one instant of several.
func (v *visit) together() bool {
	if v.volume.GroupID == nil || v.link.Confirmed.ID == "" || v.link.Confirmed.Epoch != v.volume.Epoch {
		return false
	}
	if !v.dirtySince.IsZero() && v.looked.Sub(v.dirtySince) > v.policy.RPO()/2 {
		return false // others keep it waiting for too long: it goes on alone meanwhile
	}
	_, ok := driver.As[driver.GroupSnapshotter](v.store.driver)
	return ok && v.counted
}

// apart reports whether the target lacks an instant of the volume's group though
// nothing was written: what it has of the volume is of another moment than what
// it has of the others. Without a cut for that, a group whose volumes are idle
// could not be recovered as one until somebody writes.
func (v *visit) apart(ctx context.Context) (bool, error) {
	if v.link.Target != nil || !v.together() || v.othersBusy() {
		return false, nil
	}
	mine := ""
	if c := v.link.Confirmed.Cut; c != nil && c.Group == *v.volume.GroupID {
		mine = c.ID
	}
	var others []*track
	differs := mine == ""
	v.sender.mu.Lock()
	for t := range v.sender.groups[v.track.group] {
		if t != v.track && !t.aside() {
			others, differs = append(others, t), differs || t.instant != mine
		}
	}
	v.sender.mu.Unlock()
	if mine == "" || !differs {
		return differs, nil
	}
	in, _, err := v.members(ctx, others) // some of them can't be cut now
	return slices.ContainsFunc(in, func(m member) bool { return instantOf(m.link) != mine }), err
}

// instantOf is the cut that a link's confirmed point is of; "" for none.
func instantOf(l catalog.Link) string {
	if l.Confirmed.Cut == nil {
		return ""
	}
	return l.Confirmed.Cut.ID
}

// aside reports whether the others of a group don't wait for a track: its first
// copy is under way, or it fails.
func (t *track) aside() bool { return t.blank || t.failures > 0 }

// othersBusy reports whether another member of the group is being sent, or is to
// be: then the next cut waits for it.
func (v *visit) othersBusy() bool {
	v.sender.mu.Lock()
	defer v.sender.mu.Unlock()
	for t := range v.sender.groups[v.track.group] {
		if t != v.track && (t.index < 0 || t.cut) && !t.aside() {
			return true
		}
	}
	return false
}

// reserve takes the tracks of the other members out of their queues, so that nobody works
// on them; false if somebody does.
func (s *Sender) reserve(v *visit) (others []*track, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.groups[v.track.group] {
		if t == v.track || t.aside() {
			continue
		}
		if t.index < 0 || t.cut {
			return nil, false
		}
		others = append(others, t)
	}
	for _, t := range others {
		s.takeLocked(t)
	}
	return others, true
}

// release puts tracks back; those of members that were cut are due at once.
func (s *Sender) release(others []*track, cut map[trackKey]bool) {
	s.mu.Lock()
	for _, t := range others {
		t.quiet = quiet{}
		if cut[t.key] {
			t.due, t.cut = s.cfg.Now(), true
		}
		if t.again {
			t.again, t.due = false, s.cfg.Now()
		}
		s.pushLocked(t)
	}
	s.mu.Unlock()
	s.nudge()
}

// member is a volume that is cut together with others.
type member struct {
	link   catalog.Link
	volume block.Volume
}

// cutTogether names the present moment of all volumes of the group at once, and
// notes it as what each of them is to send next. Members whose first copy is
// under way, or whose replication fails, are left out; the cut says how many are
// in it. false says that another member is still sent: nothing was cut.
func (v *visit) cutTogether(ctx context.Context) (done bool, err error) {
	others, ok := v.sender.reserve(v)
	if !ok {
		return false, nil
	}
	cut := map[trackKey]bool{}
	defer func() { v.sender.release(others, cut) }()
	snapshotter, _ := driver.As[driver.GroupSnapshotter](v.store.driver)
	members, of, err := v.members(ctx, others)
	if err != nil {
		return false, err
	}
	now := v.sender.cfg.Now()
	at := now.UTC().Truncate(time.Microsecond)
	name := &block.GroupCut{ID: block.NewID(), Group: *v.volume.GroupID, Members: len(members), Of: of}
	var refs []driver.SnapshotRef
	counter, _ := driver.As[driver.ChangeCounter](v.store.driver)
	for i := range members {
		m := &members[i]
		p := block.Point{ID: block.PointID(block.NewID()), Volume: m.volume.ID, Epoch: m.volume.Epoch, At: at, Cut: name}
		if m.link.TargetChanges, err = counter.Changes(ctx, m.volume.ID); err != nil {
			return false, err
		}
		m.link.Target, m.link.State = &p, catalog.LinkSending
		refs = append(refs, driver.SnapshotRef{Volume: m.volume.ID, Name: p.ID})
	}
	if err := v.noteCut(ctx, members); err != nil {
		return false, err
	}
	// Should this process end here, the members have no snapshot of their point:
	// each of them gives it up, see lostCut.
	if err := snapshotter.CreateSnapshots(ctx, refs); err != nil {
		return false, err
	}
	for _, m := range members {
		cut[trackKey{m.link.Volume, m.link.Protection}] = true
		if m.link.Volume == v.link.Volume {
			sent := v.link.BytesSent
			v.link, v.changes, v.looked = m.link, m.link.TargetChanges, now
			v.link.BytesSent = sent
		}
	}
	v.sender.mu.Lock()
	v.track.cut = true
	v.sender.mu.Unlock()
	return true, nil
}

// noteCut writes the members' points down before there is a snapshot of any.
func (v *visit) noteCut(ctx context.Context, members []member) error {
	return v.sender.cfg.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, m := range members {
			id := m.link.Target.ID
			if err := tx.InsertCut(m.volume.ID, id); err != nil {
				return err
			}
			if err := tx.Pin(m.volume.ID, id, holderOf(m.link.Protection)); err != nil {
				return err
			}
			if err := tx.PutLink(m.link); err != nil {
				return err
			}
		}
		return nil
	})
}

// members are the volumes that are cut now, this visit's among them, and how
// many the group has.
func (v *visit) members(ctx context.Context, others []*track) (in []member, of int, err error) {
	err = v.sender.cfg.Catalog.View(ctx, func(tx *catalog.Tx) error {
		in = []member{{v.link, v.volume}}
		all, err := tx.VolumesOfGroup(*v.volume.GroupID)
		of = len(all)
		for _, m := range all {
			i := slices.IndexFunc(others, func(t *track) bool { return t.key.volume == m.ID })
			if err != nil || i < 0 || m.ID == v.volume.ID {
				continue
			}
			l, err := tx.Link(m.ID, others[i].key.protection)
			if block.Is(err, block.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			p, ok := v.sender.policy(l.Protection)
			if !ok || !p.Enabled || !copyable(m.Status) || m.RecoveredTo != nil || l.Target != nil || l.Gone ||
				l.Confirmed.ID == "" || l.Confirmed.Epoch != m.Epoch || l.State == catalog.LinkFenced ||
				!v.sender.cfg.Backends.Shared(m.Backend, v.volume.Backend) {
				continue
			}
			in = append(in, member{l, m})
		}
		return err
	})
	return in, of, err
}

// lostCut gives up a point that was to be cut with others and of which there is
// no snapshot: the process ended before it was made, and one of its own would be
// another instant.
func (v *visit) lostCut(ctx context.Context) (lost bool, err error) {
	all, err := v.store.driver.Snapshots(ctx, v.volume.ID)
	if err != nil || slices.ContainsFunc(all, func(s driver.SnapshotInfo) bool { return s.Name == v.link.Target.ID }) {
		return false, err
	}
	l := v.link
	l.Target = nil
	if err := v.save(ctx, l, func(*catalog.Tx) error { return nil }); err != nil {
		return false, err
	}
	return true, v.tidy(ctx)
}

// holderOf is the name of the pins of a link.
func holderOf(protection int64) string { return fmt.Sprintf("replication/%d", protection) }
