package replication

import (
	"cmp"
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"kvol/internal/block"
	"kvol/internal/churn"
	"kvol/internal/driver"
)

// crew carries out a step's runs, several at once, for a store that is far away.
// Runs of one step never overlap, so their order does not matter until drain. Its
// methods are called by one goroutine.
type crew struct {
	device driver.Device
	base   *later    // nil for a full copy
	know   *recalled // what is remembered; nil for nothing
	room   *semaphore.Weighted
	slots  chan struct{}
	work   sync.WaitGroup
	next   []Run // that are to be carried out together

	mu    sync.Mutex // guards below
	plus  Sum
	less  Sum
	tally churn.Tally
	err   error // the first
}

func newCrew(device driver.Device, base *later, know *recalled, depth int) *crew {
	return &crew{device: device, base: base, know: know, room: semaphore.NewWeighted(aheadMost),
		slots: make(chan struct{}, depth)}
}

// add takes a run over; its data stays the caller's.
func (c *crew) add(ctx context.Context, r Run) error {
	if err := c.failed(); err != nil {
		return err
	}
	if n := len(c.next); n > 0 && (r.Data == nil || c.next[0].Data == nil ||
		r.Off-c.next[n-1].End() > spanGap || r.End()-c.next[0].Off > spanMost) {
		if err := c.begin(ctx); err != nil {
			return err
		}
	}
	if r.Data != nil {
		r.Data = append(takeBuffer(), r.Data...)
	}
	c.next = append(c.next, r)
	return nil
}

func (c *crew) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// begin begins to carry out what was gathered.
func (c *crew) begin(ctx context.Context) error {
	runs := c.next
	if len(runs) == 0 {
		return nil
	}
	c.next = nil
	g := gang{runs: runs, span: block.Range{Off: runs[0].Off, Len: runs[len(runs)-1].End() - runs[0].Off}}
	g.known = c.base == nil || c.recall(&g)
	weight := int64(0)
	for _, r := range runs {
		weight += int64(len(r.Data))
	}
	if !g.known {
		weight += g.span.Len
	}
	weight = min(weight, aheadMost)
	if err := c.room.Acquire(ctx, weight); err != nil {
		return err
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.work.Go(func() {
		defer func() {
			<-c.slots
			c.room.Release(weight)
		}()
		c.carry(ctx, g)
		for _, r := range g.runs {
			giveBuffer(r.Data)
		}
	})
	return nil
}

// buffers has room for runs' data, up to maxRun each: new room is cleared, and cleared
// away, which costs about as much as all that is done with the bytes.
var buffers sync.Pool

// takeBuffer returns room for a run's data, empty.
func takeBuffer() []byte {
	if p, ok := buffers.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return nil
}

// giveBuffer takes room back that nobody uses any more.
func giveBuffer(p []byte) {
	if cap(p) > 0 {
		buffers.Put(&p)
	}
}

// gang is runs that are carried out together, and what they change.
type gang struct {
	runs       []Run
	span       block.Range // that they lie in
	known      bool        // what was there before is in less and tally
	plus, less Sum
	tally      churn.Tally
}

// carry carries runs out, all at once: a cluster commits small writes together, if
// they come together. It adds up what they changed.
func (c *crew) carry(ctx context.Context, g gang) {
	err := c.compare(ctx, &g)
	var writes errgroup.Group
	writes.SetLimit(cap(c.slots))
	for _, r := range g.runs {
		if err != nil {
			break
		}
		g.tally.Wrote(r.Len, cmp.Or(r.Sent, r.Len), r.Data != nil)
		if r.Data == nil {
			c.know.zero(r.Off, r.Len)
			writes.Go(func() error { return c.device.Zero(r.Off, r.Len) })
			continue
		}
		writes.Go(func() error {
			_, err := c.device.WriteAt(r.Data, r.Off)
			return err
		})
		c.know.add(&g.plus, r.Off, r.Data)
	}
	err = cmp.Or(err, writes.Wait())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.plus, c.less = c.plus.Plus(g.plus), c.less.Plus(g.less)
	c.tally.Plus(g.tally)
}

// compare notes what the base has where the runs are.
func (c *crew) compare(ctx context.Context, g *gang) error {
	if g.known {
		return nil
	}
	base, err := c.base.get(ctx)
	if err != nil {
		return err
	}
	if g.runs[0].Data == nil {
		return eachData(ctx, base, g.span.Off, g.span.Len, func(off int64, p []byte) {
			g.less.Add(off, p)
			g.tally.Over(off, p, nil)
		})
	}
	before, err := readSpan(base, g.span)
	for _, r := range g.runs {
		p := before.at(r.Off, r.Len)
		g.less.Add(r.Off, p)
		overData(p, func(off, length int64) { g.tally.Over(r.Off+off, p[off:][:length], r.Data[off:][:length]) })
	}
	return err
}

// recall is compare by what is remembered, if all of it is.
func (c *crew) recall(g *gang) bool {
	known := make([][]was, len(g.runs))
	for i, r := range g.runs {
		var ok bool
		if known[i], ok = c.know.before(r.Off, r.Len); !ok {
			return false
		}
	}
	for i, r := range g.runs {
		for _, b := range known[i] {
			if b.term == (Sum{}) {
				continue // zeros
			}
			g.less.add(b.term)
			length := min(driver.BlockSize, r.End()-b.off)
			if r.Data == nil {
				g.tally.OverKnown(b.off, length, b.loose, nil)
			} else {
				g.tally.OverKnown(b.off, length, b.loose, r.Data[b.off-r.Off:][:length])
			}
		}
	}
	return true
}

// overData tells of the stretches of whole blocks that are not zeros.
func overData(p []byte, each func(off, length int64)) {
	for off := 0; off < len(p); {
		end := off
		for end < len(p) && !driver.IsZero(p[end:min(end+driver.BlockSize, len(p))]) {
			end = min(end+driver.BlockSize, len(p))
		}
		if end > off {
			each(int64(off), int64(end-off))
		}
		off = end + driver.BlockSize
	}
}

// drain waits until all is carried out and hands over what it changed since the
// last time.
func (c *crew) drain(ctx context.Context) (plus, less Sum, tally churn.Tally, err error) {
	err = c.begin(ctx)
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	plus, less, tally = c.plus, c.less, c.tally
	c.plus, c.less, c.tally = Sum{}, Sum{}, churn.Tally{}
	return plus, less, tally, cmp.Or(c.err, err)
}
