package replication

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/pace"
)

// trackKey names a link at the source.
type trackKey struct {
	volume     block.VolumeID
	protection int64
}

// String tells links apart.
func (k trackKey) String() string { return fmt.Sprintf("%s/%d", k.volume, k.protection) }

// track is what a Sender remembers of a link between visits. Nothing of it is
// needed after a restart.
type track struct {
	key      trackKey
	zone     block.Zone // destination; "" until its protection is known
	ends     ends
	due      time.Time
	turn     uint64
	queue    *queue // that it is in, or was in last
	index    int    // in its queue; -1 while it is visited
	again    bool
	failures int                     // in a row
	leave    context.CancelCauseFunc // ends its visit; nil before the first

	group    groupKey  // zero for a volume in none
	cut      bool      // it has a point that is not confirmed
	streams  time.Time // until then, nothing is asked of the stores' mirroring
	mistrust bool      // the target has no point in common with us, and comparing failed
	// instant is the cut of the group that the target has of the volume; "" for none.
	instant string
	blank   bool       // nothing of the volume is at the target yet
	flow    *pace.Flow // its turns on the lane's shaper; nil before the first
	first   bool       // of flow: that of a first copy

	quiet  quiet
	gauged time.Time // when what the target lacks was counted
	tidy   bool      // nothing was left over when last looked
	status LinkStatus
	point  block.PointID // whose sum is known though it isn't confirmed
	sum    Sum
}

// lane is the way to one zone.
type lane struct {
	shaper    *pace.Shaper
	lines     map[ends]*line
	running   int // visits of all lines
	idle      []*Remote
	failures  int // to get a connection, in a row
	notBefore time.Time
}

// ends are where a volume is and where its replica is: a store here, and a backend at
// the destination. Either may be "", where it is not known yet.
type ends struct{ store, backup string }

// line is the volumes of a lane between the same ends. Each line has places of its own:
// a store that hangs, here or there, keeps those of its volumes, and no others.
type line struct {
	queues  [kinds]queue
	running [kinds]int
}

// endsOf are where a volume on a backend is, and where its replica is.
func (s *Sender) endsOf(backend string, p block.Protection) ends {
	b, _ := s.cfg.Backends.Backend(backend)
	return ends{b.Store, p.Backup.Name}
}

// lineLocked is the line between two ends on the way to a zone.
func (s *Sender) lineLocked(zone block.Zone, e ends) *line {
	l := s.laneLocked(zone)
	if l.lines[e] == nil {
		l.lines[e] = &line{}
	}
	return l.lines[e]
}

// queue is a heap of tracks, the one that is due first on top.
type queue []*track

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].turn < q[j].turn
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	t := x.(*track)
	t.index = len(*q)
	*q = append(*q, t)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	t := old[len(old)-1]
	t.index = -1
	*q = old[:len(old)-1]
	return t
}

// addLocked takes a link up, of a volume that is on a backend; it is due at once. The
// caller holds s.mu.
func (s *Sender) addLocked(l catalog.Link, backend string) {
	k := trackKey{l.Volume, l.Protection}
	if s.tracks[k] != nil {
		return
	}
	t := &track{key: k, index: -1, due: s.cfg.Now(), blank: l.Confirmed.ID == "", cut: l.Target != nil,
		instant: instantOf(l)}
	if p, ok := s.policy(l.Protection); ok {
		t.zone, t.ends = p.Destination, s.endsOf(backend, p)
	}
	t.status.fill(l, t.zone)
	s.tracks[k] = t
	s.pushLocked(t)
}

// pushLocked puts a track into its queue.
func (s *Sender) pushLocked(t *track) {
	s.turn++
	t.turn, t.queue = s.turn, &s.lineLocked(t.zone, t.ends).queues[t.kindLocked()]
	heap.Push(t.queue, t)
}

// takeLocked takes a track out of its queue, so that nobody works on it.
func (s *Sender) takeLocked(t *track) {
	heap.Remove(t.queue, t.index)
	t.index = -1
}

func (s *Sender) kickLocked(t *track) {
	t.failures, t.again, t.quiet = 0, true, quiet{}
	if l := s.lanes[t.zone]; t.index >= 0 && l != nil {
		t.due, t.again = s.cfg.Now(), false
		l.failures, l.notBefore = 0, time.Time{}
		heap.Fix(t.queue, t.index)
	}
}

// errLeft is the error of visits that were to let go of their volume.
var errLeft = block.Errorf(block.Conflict, "The volume's bytes are being removed.")

// Leave has the visits of a volume end that are under way, whatever they do: its bytes
// are to be removed, which those who read them hold up. Later ones find out themselves
// what became of the volume. It does not wait for them.
func (s *Sender) Leave(volume block.VolumeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.cfg.Protections() {
		if t := s.tracks[trackKey{volume, p.Seq}]; t != nil && t.index < 0 && t.leave != nil {
			t.leave(errLeft)
		}
	}
}

// dispatch begins the visits that are due and returns how long nothing more is
// to be done, unless a visit ends or somebody kicks.
func (s *Sender) dispatch(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	wait := max(0, s.nextScan.Sub(now))
	for _, zone := range slices.Sorted(maps.Keys(s.lanes)) {
		l := s.lanes[zone]
		for _, e := range l.order() {
			for kind := range kinds {
				wait = min(wait, s.dispatchLocked(ctx, l, l.lines[e], kind, now))
			}
		}
	}
	return wait
}

// order lists a lane's lines, that first which has waited longest.
func (l *lane) order() []ends {
	return slices.SortedFunc(maps.Keys(l.lines), func(e, f ends) int {
		return cmp.Or(l.lines[e].due().Compare(l.lines[f].due()), cmp.Compare(e.store, f.store),
			cmp.Compare(e.backup, f.backup))
	})
}

// due is since when, or from when on, one of a line's volumes is due; long after now if
// there is none.
func (on *line) due() time.Time {
	first := time.Unix(1<<40, 0)
	for _, q := range on.queues {
		if len(q) > 0 && q[0].due.Before(first) {
			first = q[0].due
		}
	}
	return first
}

// freeLocked reports whether a line has a place for one more visit of a kind. The lane's
// bound keeps no line from having one.
func (s *Sender) freeLocked(l *lane, on *line, kind int) bool {
	return on.running[kind] < s.cfg.Sessions &&
		(l.running < lanePlaces*s.cfg.Sessions || on.running == [kinds]int{})
}

// dispatchLocked begins the visits of one kind that are due on a line, and
// returns how long there is nothing more to do.
func (s *Sender) dispatchLocked(ctx context.Context, l *lane, on *line, kind int, now time.Time) time.Duration {
	q := &on.queues[kind]
	for s.freeLocked(l, on, kind) && len(*q) > 0 && ctx.Err() == nil {
		at := (*q)[0].due
		if at.Before(l.notBefore) {
			at = l.notBefore
		}
		if at.After(now) {
			return at.Sub(now)
		}
		t := heap.Pop(q).(*track)
		on.running[kind]++
		l.running++
		t.status.Sending = true
		visiting, leave := context.WithCancelCause(ctx)
		t.leave = leave
		s.visits.Go(func() {
			defer leave(nil)
			began := s.cfg.Now()
			v := &visit{sender: s, track: t, lane: l, line: on, kind: kind}
			end := v.giveWayInTime()
			err := v.run(visiting)
			end()
			if cause := context.Cause(visiting); err != nil && errors.Is(cause, errLeft) {
				err = cause
			}
			s.finish(ctx, v, began, err)
			s.nudge()
		})
	}
	return math.MaxInt64
}

// unreachable is the error of a zone that can't be connected to: it is no
// fault of the volume.
type unreachable struct{ err error }

func (u *unreachable) Error() string { return u.err.Error() }

func (u *unreachable) Unwrap() error { return u.err }

// finish notes how a visit ended and when the next one is due.
func (s *Sender) finish(ctx context.Context, v *visit, began time.Time, err error) {
	ended := err
	if ctx.Err() == nil {
		ended = errors.Join(err, v.record(ctx, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, l, now := v.track, v.lane, s.cfg.Now()
	v.line.running[v.kind]--
	l.running--
	t.status.Sending = false
	if v.skipped {
		if t.due = began.Add(v.interval()); t.again {
			t.again, t.due = false, now
		}
		s.pushLocked(t)
		return
	}
	if v.over && err == nil {
		delete(s.tracks, t.key)
		s.recall.forget(t.key.String())
		s.leaveLocked(t)
		return
	}
	t.tidy = t.tidy && ended == nil
	t.mistrust = ended != nil && (t.mistrust || v.mistrusts(err))
	t.blank, t.cut, t.instant = v.link.Confirmed.ID == "", v.link.Target != nil, instantOf(v.link)
	var down *unreachable
	switch {
	case ended == nil:
		t.failures = 0
		t.due = began.Add(v.interval())
		if v.waits {
			t.due = now.Add(min(waitTogether, v.interval()))
		}
		if v.peer != nil {
			l.failures, l.notBefore = 0, time.Time{}
		}
	case errors.As(ended, &down):
		t.due = now
		if !now.Before(l.notBefore) { // visits that failed together count once
			l.failures++
			l.notBefore = now.Add(s.backOff(l.failures))
		}
	default:
		t.failures++
		t.due = now.Add(s.backOff(t.failures))
	}
	if t.again {
		t.again, t.due = false, now
	}
	if v.policy.Destination != "" {
		t.zone = v.policy.Destination
		if v.volume.Backend != "" || v.gone { // else the catalog did not say where it is
			t.ends = s.endsOf(v.volume.Backend, v.policy)
		}
	}
	t.status.fill(v.link, t.zone)
	t.status.UnreplicatedSince = v.dirtySince
	s.pushLocked(t)
}

// connect returns a connection to a zone: an idle one, else a new one.
func (s *Sender) connect(ctx context.Context, l *lane, zone block.Zone, fresh bool) (
	r *Remote, reused bool, err error,
) {
	for !fresh {
		s.mu.Lock()
		n := len(l.idle)
		if n == 0 {
			s.mu.Unlock()
			break
		}
		r, l.idle = l.idle[n-1], l.idle[:n-1]
		s.mu.Unlock()
		if r.Usable() {
			return r, true, nil
		}
		_ = r.Close()
	}
	conn, err := s.cfg.Dialer.Replicate(ctx, zone)
	if err != nil {
		return nil, false, &unreachable{broken(err)}
	}
	if r, err = NewRemote(ctx, conn, s.cfg.Zone, zone, s.cfg.Patience); err != nil {
		return nil, false, &unreachable{err}
	}
	return r, false, nil
}

// disconnect puts a connection back, or closes it where it can't be used again.
func (s *Sender) disconnect(ctx context.Context, l *lane, r *Remote) {
	if !r.Usable() || r.Leave(ctx) != nil {
		_ = r.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.idle = append(l.idle, r)
}

// Status tells how every link stands, in no order.
func (s *Sender) Status() []LinkStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]LinkStatus, 0, len(s.tracks))
	for _, t := range s.tracks {
		all = append(all, t.status)
	}
	return all
}
