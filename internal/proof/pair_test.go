package proof_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/proof"
	"kvol/internal/replication"
)

const (
	blockSize = driver.BlockSize
	blocks    = 2048
)

// pair is a volume in a zone and its replica in another, each in a store.
type pair struct {
	t       *testing.T
	catalog *catalog.Catalog // of the replica's zone
	source  *mem.Store
	store   *mem.Store
	set     *driver.Set
	now     time.Time
	n       int // points
	prover  *proof.Prover
	asked   map[proof.Verb]int
	silent  bool
	lie     func(*proof.Answer)
	claim   bool // replication works on the replica
	dies    int  // the call of DeleteSnapshot or CreateSnapshot by which the process dies
}

// mortal is a store whose process dies in the midst.
type mortal struct {
	driver.Driver
	p *pair
}

func (m mortal) Unwrap() driver.Driver { return m.Driver }

var errDead = block.Errorf(block.Unavailable, "the process is dead")

func (m mortal) step() error {
	if m.p.dies > 0 {
		if m.p.dies--; m.p.dies == 0 {
			return errDead
		}
	}
	return nil
}

func (m mortal) DeleteSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.Driver.DeleteSnapshot(ctx, ref)
}

func (m mortal) CreateSnapshot(ctx context.Context, ref driver.SnapshotRef) error {
	if err := m.step(); err != nil {
		return err
	}
	return m.Driver.CreateSnapshot(ctx, ref)
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, source: mem.New(mem.Options{}), store: mem.New(mem.Options{}), asked: map[proof.Verb]int{},
		now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}
	var err error
	if p.catalog, err = catalog.Open(t.Context(), catalog.Options{Now: func() time.Time { return p.now }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.catalog.Close() })
	p.set, err = driver.NewSet(map[string]driver.Driver{"s": mortal{p.store, p}},
		[]block.Backend{{Name: "bak", Store: "s"}})
	p.must(err)
	p.must(p.source.CreateVolume(t.Context(), "v", blocks*blockSize))
	p.must(p.store.CreateVolume(t.Context(), "r", blocks*blockSize))
	p.update(func(tx *catalog.Tx) error {
		return tx.InsertReplica(block.Replica{ID: "r", SourceZone: "a", Source: "v", Protection: 1, Backend: "bak", Epoch: 1})
	})
	p.start()
	return p
}

// start makes a Prover, as a process does that begins.
func (p *pair) start() {
	p.prover = proof.New(proof.Config{Catalog: p.catalog, Backends: p.set, Ask: p.answer, Rate: 1 << 40,
		Now: func() time.Time { return p.now }, Claim: func(block.Replica) (func(), bool) {
			if p.claim {
				return nil, false
			}
			return func() {}, true
		}})
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) update(fn func(*catalog.Tx) error) {
	p.t.Helper()
	p.must(p.catalog.Update(context.Background(), fn))
}

// answer is the volume's zone.
func (p *pair) answer(ctx context.Context, _ block.Zone, q proof.Question) (a proof.Answer, err error) {
	p.asked[q.Verb]++
	switch {
	case p.silent:
		return a, block.Errorf(block.Unavailable, "Zone a does not answer.")
	case q.Verb == proof.Hold:
		return proof.Answer{Point: p.point(p.n)}, nil
	case q.Verb == proof.Release:
		return a, nil
	}
	r, err := p.source.OpenSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: q.Point})
	if err != nil {
		return a, err
	}
	defer r.Close()
	a, err = proof.Reply(ctx, q, r)
	if p.lie != nil {
		p.lie(&a)
	}
	return a, err
}

func (p *pair) point(n int) block.PointID { return block.PointID(fmt.Sprintf("p%03d", n)) }

func write(t *testing.T, s *mem.Store, id block.VolumeID, off int64, data []byte) {
	t.Helper()
	dev, err := s.OpenVolume(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = dev.WriteAt(data, off); err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
}

// replicate writes to the volume and makes a point of it in both zones.
func (p *pair) replicate(off int64, data []byte) {
	p.t.Helper()
	write(p.t, p.source, "v", off, data)
	write(p.t, p.store, "r", off, data)
	p.cut()
}

func (p *pair) cut() {
	p.t.Helper()
	p.n++
	ctx, at := p.t.Context(), driver.SnapshotRef{Volume: "v", Name: p.point(p.n)}
	p.must(p.source.CreateSnapshot(ctx, at))
	p.must(p.store.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "r", Name: at.Name}))
	r, err := p.source.OpenSnapshot(ctx, at)
	p.must(err)
	sum, err := replication.SumOf(ctx, r)
	p.must(err)
	p.now = p.now.Add(time.Minute)
	p.update(func(tx *catalog.Tx) error {
		rep, err := tx.Replica("r")
		if err != nil {
			return err
		}
		rep.Newest = block.Point{ID: at.Name, Volume: "v", Epoch: 1, Sequence: uint64(p.n), At: p.now, Size: r.Size(),
			Root: sum.Root(r.Size())}
		rep.Current = p.now
		if err := tx.InsertPoint("r", rep.Newest, sum.Bytes()); err != nil {
			return err
		}
		return tx.UpdateReplica(rep)
	})
	p.must(r.Close())
}

func (p *pair) prove() proof.Result {
	p.t.Helper()
	res, err := p.prover.Prove(p.t.Context(), "r", nil)
	p.must(err)
	return res
}

func (p *pair) damaged() (ids []block.PointID) {
	p.t.Helper()
	p.update(func(tx *catalog.Tx) error {
		all, err := tx.DamagedPoints("r")
		for id := range all {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		return err
	})
	return ids
}

// settled makes sure that nothing is pinned any more, and that the newest points
// are the same in both stores.
func (p *pair) settled() {
	p.t.Helper()
	p.update(func(tx *catalog.Tx) error {
		if held, err := tx.PinnedPoints("r"); err != nil || len(held) > 0 {
			p.t.Errorf("pinned still: %v, %v", held, err)
		}
		return nil
	})
	read := func(s *mem.Store, id block.VolumeID) []byte {
		r, err := s.OpenSnapshot(p.t.Context(), driver.SnapshotRef{Volume: id, Name: p.point(p.n)})
		p.must(err)
		defer r.Close()
		b := make([]byte, r.Size())
		_, err = r.ReadAt(b, 0)
		p.must(err)
		return b
	}
	if !bytes.Equal(read(p.source, "v"), read(p.store, "r")) {
		p.t.Error("the newest points differ")
	}
}

func noise(n int, seed uint64) []byte {
	r, b := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
