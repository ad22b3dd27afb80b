package proof

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// Config is what a Prover works with. Catalog and Backends are needed.
type Config struct {
	Catalog  *catalog.Catalog
	Backends *driver.Set
	// Ask asks the zone that a replica comes from. Nil where no zone can be asked.
	Ask func(ctx context.Context, zone block.Zone, q Question) (Answer, error)
	// Sender is the zone that a replica comes from; nil where that is always the
	// volume's.
	Sender func(rep block.Replica) block.Zone
	// Claim keeps replication off a replica while its newest point is mended, if
	// nothing works on it; see replication.Receiver.Claim.
	Claim func(rep block.Replica) (release func(), ok bool)

	Within time.Duration // each replica is read in that time; 7 days if 0, never by itself if negative
	Rate   int64         // bytes that are read in a second at most; 64 MiB if 0
	Rest   time.Duration // between two looks for what is due; 1 min if 0, or less where Within is short
	Retry  time.Duration // until damage is looked at again; an hour if 0, or less where Within is short
	Now    func() time.Time
	Log    *slog.Logger
}

// Holder is the name of a Prover's pins.
const Holder = "proof"

// part is how much is read between two notes of how far it is, in bytes.
const part = 64 << 20

// Prover reads the replicas of a zone again. Its methods may be called at once.
type Prover struct {
	cfg    Config
	turn   chan struct{} // holds a token while a replica is read by itself: one at a time
	asked  chan struct{} // the same for those that somebody asked for, beside
	kicked chan struct{}

	mu    sync.Mutex // guards all below
	doubt map[block.VolumeID]bool
	tried map[block.VolumeID]time.Time // when a replica was last looked at, whatever came of it
	busy  map[block.VolumeID]chan struct{}
}

// New makes a Prover.
func New(cfg Config) *Prover {
	cfg.Within = cmp.Or(cfg.Within, 7*24*time.Hour)
	cfg.Rate = cmp.Or(cfg.Rate, 64<<20)
	rest, retry := time.Minute, time.Hour
	if cfg.Within > 0 { // else they alone would take longer
		rest, retry = min(rest, cfg.Within/16), min(retry, cfg.Within/4)
	}
	cfg.Rest, cfg.Retry = cmp.Or(cfg.Rest, rest), cmp.Or(cfg.Retry, retry)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Prover{cfg: cfg, turn: make(chan struct{}, 1), asked: make(chan struct{}, 1),
		kicked: make(chan struct{}, 1), busy: map[block.VolumeID]chan struct{}{}, doubt: map[block.VolumeID]bool{},
		tried: map[block.VolumeID]time.Time{}}
}

// Within is the time in which each replica is read; negative for none.
func (p *Prover) Within() time.Duration { return p.cfg.Within }

// Doubt has a replica read soon, unless it was within the time after which damage
// is looked at again. It does not block.
func (p *Prover) Doubt(replica block.VolumeID) {
	p.mu.Lock()
	if p.cfg.Now().Sub(p.tried[replica]) >= p.cfg.Retry {
		p.doubt[replica] = true
	}
	p.mu.Unlock()
	p.kick()
}

// Again has a replica read as soon as it is its turn, however long ago it was
// read. It does not block.
func (p *Prover) Again(replica block.VolumeID) {
	p.mu.Lock()
	p.doubt[replica] = true
	p.mu.Unlock()
	p.kick()
}

func (p *Prover) kick() {
	select {
	case p.kicked <- struct{}{}:
	default:
	}
}

// Run reads what is due until ctx ends.
func (p *Prover) Run(ctx context.Context) error {
	for {
		rep, due, err := p.next(ctx)
		if err == nil && due {
			_, err = p.prove(ctx, p.turn, rep, nil)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			p.cfg.Log.Error("a replica could not be read", "replica", rep, "err", err)
		}
		if due && err == nil {
			continue
		}
		rest := time.NewTimer(p.cfg.Rest)
		select {
		case <-ctx.Done():
		case <-p.kicked:
		case <-rest.C:
		}
		rest.Stop()
	}
}

// next chooses the replica to be read: one that is in doubt, damaged or half
// read, else the one that was read the longest ago, when half of its time is
// over.
func (p *Prover) next(ctx context.Context) (best block.VolumeID, due bool, err error) {
	var all []block.Replica
	var proofs map[block.VolumeID]block.Proof
	err = p.cfg.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		if all, err = tx.Replicas(""); err == nil {
			proofs, err = tx.Proofs()
		}
		return err
	})
	if err != nil {
		return "", false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	var oldest time.Time
	for _, r := range all {
		f := proofs[r.ID]
		if r.Newest.ID == "" || now.Sub(p.tried[r.ID]) < p.cfg.Retry && !p.doubt[r.ID] {
			continue
		}
		if p.doubt[r.ID] || f.State != block.ProofIdle {
			return r.ID, true, nil
		}
		at := f.Last.At
		if at.IsZero() {
			at = r.CreatedAt
		}
		waited := now.Sub(at) >= p.cfg.Within/2 || f.Last.At.IsZero() && now.Sub(at) >= p.cfg.Within/16
		if p.cfg.Within > 0 && waited && (best == "" || at.Before(oldest)) {
			best, oldest = r.ID, at
		}
	}
	return best, best != "", nil
}

// Result is what came of reading a replica.
type Result struct {
	Proof    block.Proof
	Whole    bool            // all points are what was committed
	Damaged  []block.PointID // that are marked now
	Repaired int             // blocks that were put right
}

// enter waits for a turn, and for the end of another reading of a replica.
func (p *Prover) enter(ctx context.Context, turn chan struct{}, id block.VolumeID) (leave func(), err error) {
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		p.mu.Lock()
		other := p.busy[id]
		if other == nil {
			mine := make(chan struct{})
			p.busy[id], p.tried[id] = mine, p.cfg.Now()
			delete(p.doubt, id)
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				delete(p.busy, id)
				p.mu.Unlock()
				close(mine)
				<-turn
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			<-turn
			return nil, ctx.Err()
		}
	}
}

// Prove reads a replica to the end, and deals with what is wrong. progress may be
// nil. One replica is read at a time for those who ask, beside the one that is
// read by itself. A replica that is gone is no error.
func (p *Prover) Prove(ctx context.Context, id block.VolumeID, progress func(done, total int64)) (Result, error) {
	return p.prove(ctx, p.asked, id, progress)
}

func (p *Prover) prove(ctx context.Context, turn chan struct{}, id block.VolumeID, progress func(done, total int64)) (
	Result, error,
) {
	leave, err := p.enter(ctx, turn, id)
	if err != nil {
		return Result{}, err
	}
	defer leave()
	if progress == nil {
		progress = func(int64, int64) {}
	}
	l := &look{prover: p, id: id, progress: progress, began: p.cfg.Now()}
	defer l.close()
	res, err := l.run(ctx)
	if block.Is(err, block.NotFound) { // the replica, or the point, is gone meanwhile
		return res, l.forget(ctx)
	}
	return res, err
}

// Compare has the volume's zone read all of the newest point that both zones
// have. Its hash counts as that of a point which Prove found whole here. Another
// one is noted in the replica's account, until it is compared again.
// Unavailable where that zone does not answer.
func (p *Prover) Compare(ctx context.Context, id block.VolumeID, progress func(done, total int64)) (*Compared, error) {
	leave, err := p.enter(ctx, p.asked, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	l := &look{prover: p, id: id, progress: progress, began: p.cfg.Now()}
	defer l.close()
	if err := l.load(ctx); err != nil {
		return nil, err
	}
	c, err := l.compare(ctx)
	if err != nil {
		return nil, err
	}
	l.proof.Source = nil
	if !c.Equal() {
		l.proof.Source = &block.WrongSource{At: p.cfg.Now().UTC(), Point: c.Point, PointAt: c.PointAt, Root: c.Source}
	}
	return c, l.update(ctx, func(tx *catalog.Tx) error {
		_, err := tx.Replica(id)
		return err
	})
}
