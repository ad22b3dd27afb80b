package replication

import (
	"context"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/pace"
)

// LinkLimits are how much may be sent to one zone: in all, and under single
// protections by their seq.
type LinkLimits struct {
	Whole pace.Limit
	Parts map[int64]pace.Limit
}

// The runs of a way that has a limit are cut so that each takes a small part of
// a second: others are not to wait for long.
const (
	minChunk  = 16 << 10
	maxChunk  = 256 << 10
	chunkPart = 1.0 / 32 // of a second
)

// paced is a Target whose bytes go out when it is their turn. What the ends say
// to each other beside the runs waits for nobody, and counts.
type paced struct {
	Target
	remote *Remote
	shaper *pace.Shaper
	flow   *pace.Flow
	part   int64  // the protection's seq
	visit  *visit // nil for a relay
	told   int64  // bytes of remote that were accounted for
}

// Unwrap returns the Target behind.
func (p *paced) Unwrap() Target { return p.Target }

// rest accounts for what went out beside the runs.
func (p *paced) rest() {
	sent := p.remote.Sent()
	p.flow.Sent(sent - p.told)
	p.told = sent
}

// Write implements Target.
func (p *paced) Write(ctx context.Context, r Run) error {
	p.rest()
	for _, part := range r.chunks(p.chunk()) {
		if p.visit != nil {
			p.visit.outgrown()
		}
		if err := p.flow.Wait(ctx, int64(len(part.Data))+32); err != nil {
			return err
		}
		err := p.Target.Write(ctx, part)
		sent := p.remote.Sent()
		p.flow.Done(sent - p.told)
		p.told = sent
		if err != nil {
			return err
		}
		if p.visit != nil {
			p.visit.moved(int64(len(part.Data)))
		}
	}
	return nil
}

// chunk is how much data goes out at a time.
func (p *paced) chunk() int64 {
	rate := p.shaper.Rate(p.part)
	if rate == 0 {
		return maxRun
	}
	return min(max(int64(float64(rate)*chunkPart), minChunk), maxChunk) / driver.BlockSize * driver.BlockSize
}

// chunks cuts a run's data into parts of at most size bytes.
func (r Run) chunks(size int64) []Run {
	if r.Len <= size || r.Data == nil {
		return []Run{r}
	}
	parts := make([]Run, 0, r.Len/size+1)
	for at := int64(0); at < r.Len; at += size {
		n := min(size, r.Len-at)
		parts = append(parts, Run{Off: r.Off + at, Len: n, Data: r.Data[at : at+n]})
	}
	return parts
}

// Commit implements Target.
func (p *paced) Commit(ctx context.Context, c Commit) (block.Point, error) {
	defer p.rest()
	return p.Target.Commit(ctx, c)
}

// Heartbeat implements Target.
func (p *paced) Heartbeat(ctx context.Context, h Heartbeat) error {
	defer p.rest()
	return p.Target.Heartbeat(ctx, h)
}

// pace has what a visit sends go out in its turn.
func (v *visit) pace(t Target) Target {
	s := v.sender
	s.mu.Lock()
	defer s.mu.Unlock()
	first := v.link.Confirmed.ID == "" && (v.origin() == nil || v.origin().Zone != v.policy.Destination)
	if v.track.flow == nil || v.track.first != first {
		v.track.flow, v.track.first = v.lane.shaper.Flow(v.link.Protection, first), first
	}
	return &paced{
		Target: t,
		visit:  v,
		remote: v.remote,
		shaper: v.lane.shaper,
		flow:   v.track.flow,
		part:   v.link.Protection,
		told:   v.remote.Sent(),
	}
}

// Repace takes over limits that changed. It never blocks for long.
func (s *Sender) Repace() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for zone, l := range s.lanes {
		s.limitLocked(zone, l)
	}
}

func (s *Sender) limitLocked(zone block.Zone, l *lane) {
	if s.cfg.Limits == nil {
		return
	}
	limits := s.cfg.Limits(zone)
	l.shaper.Set(limits.Whole, limits.Parts)
}

// laneLocked is the way to a zone.
func (s *Sender) laneLocked(zone block.Zone) *lane {
	l := s.lanes[zone]
	if l == nil {
		l = &lane{shaper: pace.NewShaper(s.cfg.Now, nil), lines: map[ends]*line{}}
		s.lanes[zone] = l
		s.limitLocked(zone, l)
	}
	return l
}

// The two kinds of visits. What takes long has places of its own, so that
// volumes of which little is to be sent find one.
const (
	quick = iota
	bulk
	kinds
)

// bulkBytes and bulkTime are from how much on, or from how long on, a visit counts
// as one that takes long; bulkPlaces is how many such there may be at a time for
// each place, where quick ones turned out to be some. lanePlaces is how many visits to a
// zone there may be in all for each place, fewer than that zone takes streams.
const (
	bulkBytes  = 4 << 20
	bulkTime   = 500 * time.Millisecond
	bulkPlaces = 8
	slowPlaces = 4
	lanePlaces = 12
)

// kindLocked is what the next visit of a track will be.
func (t *track) kindLocked() int {
	if t.blank || t.status.Unreplicated > bulkBytes {
		return bulk
	}
	return quick
}

// outgrown gives the place of a quick visit back that turned out to be long, by what it
// carried or by how long its step takes.
func (v *visit) outgrown() {
	if v.step.bytes >= bulkBytes || v.sender.cfg.Now().Sub(v.step.began) >= bulkTime {
		v.giveWay(bulkPlaces)
	}
}

// giveWay gives the place of a quick visit to who is quick, and takes one of those that
// take long, of which there are so many for each place; false while there is none.
func (v *visit) giveWay(places int) bool {
	s := v.sender
	if v.line == nil {
		return true
	}
	s.mu.Lock()
	was, free := v.kind, v.line.running[bulk] < places*s.cfg.Sessions
	if was == quick && free {
		v.line.running[quick]--
		v.line.running[bulk]++
		v.kind = bulk
	}
	s.mu.Unlock()
	if was == quick && free {
		s.nudge()
	}
	return was == bulk || free
}

// long reports whether a visit has a place of those that take long.
func (v *visit) long() bool {
	v.sender.mu.Lock()
	defer v.sender.mu.Unlock()
	return v.kind == bulk
}

// giveWayInTime has a visit give way that takes long though it carries nothing: its
// target rewinds, or its store is slow to say what changed. It is over when end was
// called.
func (v *visit) giveWayInTime() (end func()) {
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(bulkTime)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if v.giveWay(slowPlaces) {
				return
			}
		}
	})
	return func() {
		close(over)
		watching.Wait()
	}
}
