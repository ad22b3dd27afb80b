package replication

import (
	"context"
	"time"

	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// quiet is what a track remembers of a visit that left nothing to be done: until
// the next heartbeat is due, nothing but the driver's count of changes is looked
// at. So a volume that nobody writes to costs the catalog one look for each
// heartbeat, and not one for each interval. The zero value remembers nothing.
type quiet struct {
	until   time.Time
	backend string
	changes uint64
}

// rests notes that the target has everything, as of what the visit looked at.
// Volumes in groups are not remembered, since others' cuts are about them too.
func (v *visit) rests() {
	if !v.counted || v.volume.GroupID != nil || v.link.State != catalog.LinkCurrent || v.link.Error != "" ||
		v.link.Target != nil || v.changes != v.link.Changes {
		return
	}
	s := v.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	if !v.track.again { // else somebody says that there is something new
		v.track.quiet = quiet{v.link.Current.Add(v.heartbeatEvery()), v.volume.Backend, v.changes}
	}
}

// idle reports whether nothing happened since the visit that noted that all is
// there.
func (v *visit) idle(ctx context.Context) bool {
	s, now := v.sender, v.sender.cfg.Now()
	s.mu.Lock()
	q := v.track.quiet
	s.mu.Unlock()
	if q.backend == "" || !now.Before(q.until) || now.Before(q.until.Add(-maxQuiet)) {
		return false
	}
	var ok bool
	if v.policy, ok = s.policy(v.track.key.protection); !ok || !v.policy.Enabled {
		return false
	}
	d, err := s.cfg.Backends.Of(q.backend)
	if err != nil {
		return false
	}
	counter, ok := driver.As[driver.ChangeCounter](d)
	if !ok {
		return false
	}
	if changes, err := counter.Changes(ctx, v.track.key.volume); err != nil || changes != q.changes {
		return false
	}
	v.lacks(0)
	return true
}

// maxQuiet is how long ahead a heartbeat can be due at most: if it seems to be
// longer, the clock was set back.
const maxQuiet = time.Hour
