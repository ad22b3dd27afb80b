package replication

import (
	"sync"

	"kvol/internal/block"
	"kvol/internal/churn"
	"kvol/internal/driver"
)

// recallMost is how many chunks a recall has at most, old ones and young ones each:
// about 70 MiB in all, for what was written anew of some 8 GiB.
const recallMost = 64 << 10

// recallWhole is up to which size, in bytes, a volume is remembered by its first copy: a
// larger one would only push out what is there.
const recallWhole = recallMost / 2 * chunkBlocks * driver.BlockSize

// chunkBlocks is how many blocks of a volume are remembered together.
const chunkBlocks = 16

// recall remembers what blocks of volumes add to the sum of the point at which their
// replication stands. A step takes out of the sum what the blocks that it changes
// were before: what is remembered need not be read, and where a store is far away,
// reading is what a step costs. What is written again and again is what is there;
// the rest is forgotten, and read. It is used by many goroutines at once.
type recall struct {
	mu         sync.Mutex // guards below
	turn       uint64     // of the last memory
	now        map[string]memory
	young, old map[chunkKey]*chunk // old ones that are asked for become young again
	most       int
}

// memory says of what point a volume's chunks are. A step under way has none.
type memory struct {
	turn  uint64 // what was remembered under another one counts no more
	point block.PointID
}

type chunkKey struct {
	turn  uint64
	index int64
}

// chunk is what is known of neighbouring blocks.
type chunk struct {
	known, loose uint16 // a bit for each block
	terms        [chunkBlocks]Sum
}

func newRecall() *recall {
	return &recall{now: map[string]memory{}, young: map[chunkKey]*chunk{}, old: map[chunkKey]*chunk{}, most: recallMost}
}

// recalled is what one step knows and learns of a volume. A nil one knows nothing.
type recalled struct {
	r    *recall
	name string
	turn uint64
}

// begin begins a step from a point; known reports whether anything of that point is
// remembered. name tells volumes apart, and what it remembers of one is this step's
// alone: who began before learns nothing for others any more.
func (r *recall) begin(name string, base block.PointID) (c *recalled, known bool) {
	if r == nil {
		return nil, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.now[name]
	known = base != "" && m.point == base
	if !known {
		r.turn++
		m.turn = r.turn
	}
	m.point = "" // until the step ends well, its blocks are of two points
	r.now[name] = m
	return &recalled{r, name, m.turn}, known
}

// done says that all that was learned is of a point.
func (c *recalled) done(point block.PointID) {
	if c == nil {
		return
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	if m := c.r.now[c.name]; m.turn == c.turn {
		m.point = point
		c.r.now[c.name] = m
	}
}

// forget forgets a volume.
func (r *recall) forget(name string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.now, name)
}

// was is a block as it was: what it added to the sum, and whether its bytes could be
// compressed well, where churn looks.
type was struct {
	off   int64
	term  Sum
	loose bool
}

// before tells of each block of a range, or of none where one is unknown.
func (c *recalled) before(off, length int64) (blocks []was, ok bool) {
	if c == nil {
		return nil, false
	}
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for end := off + length; off < end; off += driver.BlockSize {
		i, bit := place(off)
		k := c.r.chunk(chunkKey{c.turn, i})
		if k == nil || k.known>>bit&1 == 0 {
			return nil, false
		}
		blocks = append(blocks, was{off, k.terms[bit], k.loose>>bit&1 == 1})
	}
	return blocks, true
}

// add adds the blocks of p, which are at off now, to a sum, and remembers them.
func (c *recalled) add(s *Sum, off int64, p []byte) {
	if c == nil {
		s.Add(off, p)
		return
	}
	var learned []was
	for len(p) > 0 {
		n := min(len(p), driver.BlockSize)
		w := was{off: off, loose: churn.Loose(off, p[:n])}
		w.term.Add(off, p[:n])
		s.add(w.term)
		learned, off, p = append(learned, w), off+driver.BlockSize, p[n:]
	}
	c.learn(learned)
}

// zero remembers that a range is of zeros now. Of a long one, all that is known of the
// volume is forgotten instead.
func (c *recalled) zero(off, length int64) {
	if c == nil {
		return
	}
	if length > maxRun {
		c.r.mu.Lock()
		defer c.r.mu.Unlock()
		c.r.turn++
		if m := c.r.now[c.name]; m.turn == c.turn {
			m.turn = c.r.turn
			c.r.now[c.name] = m
		}
		c.turn = c.r.turn
		return
	}
	learned := make([]was, 0, length/driver.BlockSize+1)
	for end := off + length; off < end; off += driver.BlockSize {
		learned = append(learned, was{off: off})
	}
	c.learn(learned)
}

func (c *recalled) learn(blocks []was) {
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	for _, w := range blocks {
		i, bit := place(w.off)
		key := chunkKey{c.turn, i}
		k := c.r.chunk(key)
		if k == nil {
			k = &chunk{}
			c.r.keep(key, k)
		}
		k.terms[bit], k.known = w.term, k.known|1<<bit
		if k.loose &^= 1 << bit; w.loose {
			k.loose |= 1 << bit
		}
	}
}

// chunk finds a chunk; mu must be held.
func (r *recall) chunk(key chunkKey) *chunk {
	if k, ok := r.young[key]; ok {
		return k
	}
	k, ok := r.old[key]
	if ok {
		delete(r.old, key)
		r.keep(key, k)
	}
	return k
}

// keep adds a chunk to the young ones; mu must be held. When those are too many, they
// are the old ones, and what was old is gone.
func (r *recall) keep(key chunkKey, k *chunk) {
	if len(r.young) >= r.most {
		r.young, r.old = map[chunkKey]*chunk{}, r.young
	}
	r.young[key] = k
}

func place(off int64) (index int64, bit uint) {
	n := off / driver.BlockSize
	return n / chunkBlocks, uint(n % chunkBlocks)
}
