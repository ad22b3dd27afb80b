package proof_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/proof"
)

// TestAWholeReplicaIsProven: with all its points, and no alarm.
func TestAWholeReplicaIsProven(t *testing.T) {
	p := newPair(t)
	p.replicate(0, noise(64*blockSize, 1))
	for n := range 5 {
		p.replicate(int64(n)*100*blockSize, noise(8*blockSize, uint64(n)))
	}
	res := p.prove()
	if last := res.Proof.Last; !res.Whole || last.Point != p.point(p.n) || last.Points != 6 || last.Bytes == 0 ||
		!last.At.Equal(p.now) {
		t.Errorf("%+v", res)
	}
	c, err := p.prover.Compare(t.Context(), "r", func(int64, int64) {})
	if err != nil || !c.Equal() || c.Point != p.point(p.n) {
		t.Errorf("%+v, %v", c, err)
	}
	p.settled()
}

// TestSilentCorruptionIsFoundAndRepaired: bytes that are valid to the store, and
// wrong, be they changed, lost, or from nowhere. The points that share them are
// known, and those before them are not blamed.
func TestSilentCorruptionIsFoundAndRepaired(t *testing.T) {
	for name, spoil := range map[string]func(*pair){
		"a flipped bit": func(p *pair) {
			b := noise(64*blockSize, 1)[7*blockSize : 8*blockSize]
			b[99] ^= 4
			write(p.t, p.store, "r", 7*blockSize, b)
		},
		"a lost write": func(p *pair) { write(p.t, p.store, "r", 9*blockSize, make([]byte, 2*blockSize)) },
		"a misdirected write": func(p *pair) {
			write(p.t, p.store, "r", 1500*blockSize, noise(3*blockSize, 5))
			write(p.t, p.store, "r", 0, noise(blockSize, 6))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.replicate(0, noise(64*blockSize, 1))
			p.replicate(200*blockSize, noise(blockSize, 2))
			spoil(p)
			p.replicate(300*blockSize, noise(blockSize, 3))
			p.replicate(400*blockSize, noise(blockSize, 4))
			p.silent = true
			if res := p.prove(); res.Whole || res.Proof.State != block.ProofDamaged || res.Proof.Note == "" {
				t.Errorf("while nobody answers: %+v", res)
			}
			if got := p.damaged(); !slices.Equal(got, []block.PointID{p.point(3), p.point(4)}) {
				t.Errorf("damaged are %v", got)
			}
			p.silent = false
			res := p.prove()
			if res.Repaired == 0 || res.Repaired > 4 || res.Proof.Last.Point != p.point(4) {
				t.Errorf("%+v", res)
			}
			if got := p.damaged(); !slices.Equal(got, []block.PointID{p.point(3)}) {
				t.Errorf("after the repair %v are damaged", got)
			}
			if n := p.asked[proof.Read]; n > 4 {
				t.Errorf("%d reads for %d blocks", n, res.Repaired)
			}
			p.settled()
			p.replicate(8*blockSize, noise(blockSize, 9)) // replication goes on from it
			if res := p.prove(); res.Proof.State != block.ProofIdle || len(p.damaged()) != 1 {
				t.Errorf("%+v", res)
			}
			p.settled()
			p.update(func(tx *catalog.Tx) error {
				all, err := tx.DREvents("", 0, 100)
				if err != nil || len(all) < 2 || all[0].To != block.HealthOK {
					t.Errorf("%+v, %v", all, err)
				}
				return err
			})
		})
	}
}

// TestARepairThatIsKilledIsFinished: wherever, and nothing is recovered meanwhile.
func TestARepairThatIsKilledIsFinished(t *testing.T) {
	for dies := 1; dies <= 2; dies++ {
		p := newPair(t)
		p.replicate(0, noise(64*blockSize, 1))
		write(t, p.store, "r", 3*blockSize, noise(blockSize, 7))
		p.replicate(200*blockSize, noise(blockSize, 2))
		p.dies = dies
		if res := p.prove(); res.Whole {
			t.Errorf("%+v", res)
		}
		if got := p.damaged(); !slices.Contains(got, p.point(2)) {
			t.Errorf("killed at %d: %v", dies, got)
		}
		p.start()
		if res := p.prove(); len(p.damaged()) != 0 {
			t.Errorf("killed at %d: %+v %v", dies, res, p.damaged())
		}
		p.settled()
	}
}

// TestOnlyWhatAddsUpIsBelieved: a source that gives other hashes or bytes changes
// nothing, and one whose own point is wrong is told.
func TestOnlyWhatAddsUpIsBelieved(t *testing.T) {
	for name, lie := range map[string]func(*proof.Answer){
		"another hash": func(a *proof.Answer) {
			if len(a.Sums) > 0 {
				a.Sums[0][0] ^= 1
			}
		},
		"other bytes": func(a *proof.Answer) {
			if len(a.Data) > 0 {
				a.Data[0][17] ^= 1
			}
		},
		"too few": func(a *proof.Answer) { a.Sums = a.Sums[:len(a.Sums)/2] },
	} {
		p := newPair(t)
		p.replicate(0, noise(64*blockSize, 1))
		write(t, p.store, "r", 3*blockSize, noise(blockSize, 7))
		p.replicate(200*blockSize, noise(blockSize, 2))
		p.lie = lie
		if res := p.prove(); res.Repaired != 0 || len(p.damaged()) != 1 {
			t.Errorf("%s: %+v", name, res)
		}
	}
	p := newPair(t)
	p.replicate(0, noise(64*blockSize, 1))
	c, err := p.prover.Compare(t.Context(), "r", func(int64, int64) {})
	if err != nil || !c.Equal() {
		t.Errorf("%+v, %v", c, err)
	}
	p.lie = func(a *proof.Answer) {
		if len(a.Sums) > 0 {
			a.Sums[0][3] ^= 8
		}
	}
	if c, err := p.prover.Compare(t.Context(), "r", func(int64, int64) {}); err != nil || c.Equal() {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestNoFalseAlarm: points come, thin out and go while a replica is read; it
// grows; and it is deleted.
func TestNoFalseAlarm(t *testing.T) {
	p := newPair(t)
	p.replicate(0, noise(1024*blockSize, 1))
	thin := func(id block.PointID) {
		p.update(func(tx *catalog.Tx) error {
			held, err := tx.PinnedPoints("r")
			if err != nil || held[id] {
				return err
			}
			return tx.DeletePoint("r", id)
		})
		p.update(func(tx *catalog.Tx) error {
			if _, _, err := tx.Point("r", id); block.Is(err, block.NotFound) {
				return p.store.DeleteSnapshot(context.Background(), driver.SnapshotRef{Volume: "r", Name: id})
			}
			return nil
		})
	}
	for round := range 6 {
		began := p.n
		res, err := p.prover.Prove(t.Context(), "r", func(int64, int64) { // while it is read
			p.replicate(int64(round)*64*blockSize, noise(16*blockSize, uint64(p.n)))
			if round == 3 {
				p.must(p.source.ExtendVolume(t.Context(), "v", 2*blocks*blockSize))
				p.must(p.store.ExtendVolume(t.Context(), "r", 2*blocks*blockSize))
				p.replicate((2*blocks-1)*blockSize, noise(blockSize, 3))
			}
			for n := 1; n < p.n-1; n++ {
				if n%3 != 0 {
					thin(p.point(n))
				}
			}
		})
		if err != nil || !res.Whole || res.Proof.Last.Point != p.point(began) || len(p.damaged()) != 0 {
			t.Fatalf("round %d: %+v, %v", round, res, err)
		}
		p.settled()
	}
	res, err := p.prover.Prove(t.Context(), "r", func(int64, int64) {
		p.update(func(tx *catalog.Tx) error {
			r, err := tx.Replica("r")
			r.DeletedAt = p.now
			if err == nil {
				err = tx.UpdateReplica(r)
			}
			return err
		})
	})
	if err != nil || len(p.damaged()) != 0 || len(res.Damaged) != 0 {
		t.Errorf("the volume was deleted meanwhile: %+v, %v", res, err)
	}
	p.prove()
	p.settled()
}

// TestAllAreReadInTime: by themselves, the one that was read the longest ago
// first, and again when its time comes; what was begun goes on after a restart.
func TestAllAreReadInTime(t *testing.T) {
	p := newPair(t)
	p.replicate(0, noise(64*blockSize, 1))
	last := func() (f block.Proof) {
		p.update(func(tx *catalog.Tx) (err error) { f, err = tx.Proof("r"); return err })
		return f
	}
	ctx, stop := context.WithCancel(t.Context())
	p.now = p.now.Add(p.prover.Within())
	done := make(chan error, 1)
	go func() { done <- p.prover.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Minute); last().Last.At.IsZero() && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	stop()
	p.must(<-done)
	if f := last(); f.Last.Point != p.point(1) || f.State != block.ProofIdle {
		t.Fatalf("%+v", f)
	}
}

func FuzzQuestion(f *testing.F) {
	f.Add(int64(0), int64(4096), int64(1<<20), "sums")
	f.Add(int64(-4096), int64(1<<62), int64(1<<20), "read")
	f.Fuzz(func(t *testing.T, off, length, size int64, verb string) {
		q := proof.Question{Verb: proof.Verb(verb), Ranges: []block.Range{{Off: off, Len: length}}}
		if q.Check(size) == nil && (off < 0 || length <= 0 || off+length > size || length > proof.MaxSummed) {
			t.Errorf("%d bytes at %d of %d are accepted", length, off, size)
		}
	})
}

// TestAnotherSourceIsNoted: that the volume's own zone has something else than
// was committed is in the replica's account until it is compared again.
func TestAnotherSourceIsNoted(t *testing.T) {
	p := newPair(t)
	p.replicate(0, []byte("right"))
	p.lie = func(a *proof.Answer) {
		if len(a.Sums) > 0 {
			a.Sums[0] = block.RootHash{9}
		}
	}
	for _, lies := range []bool{true, false} {
		c, err := p.prover.Compare(t.Context(), "r", func(int64, int64) {})
		if err != nil || c.Equal() == lies {
			t.Fatalf("%+v, %v", c, err)
		}
		var noted block.Proof
		p.update(func(tx *catalog.Tx) (err error) {
			noted, err = tx.Proof("r")
			return err
		})
		if lies != (noted.Source != nil) || lies && (noted.Source.Point != p.point(p.n) || noted.Source.Root != c.Source ||
			!noted.Source.At.Equal(p.now)) {
			t.Errorf("the source lies: %v, and noted is %+v", lies, noted.Source)
		}
		p.lie = nil
	}
}
