package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
	"kvol/internal/proof"
)

// TestOtherZonesCompare: the zone of a replica gets sums and bytes of the point
// that it has, which is kept for it; no other zone gets anything.
func TestOtherZonesCompare(t *testing.T) {
	z, ctx := newHealthZone(t), t.Context()
	z.well()
	d, err := z.set.Of("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: ownVolume, Name: "point"}); err != nil {
		t.Fatal(err)
	}
	hold := proof.Question{Verb: proof.Hold, Volume: ownVolume, Protection: 7}
	otherwise, stranger := hold, hold
	otherwise.Protection, stranger.Volume = 2, theirVolume
	for i, q := range []proof.Question{hold, otherwise, stranger} {
		from := block.Zone("a")
		if i == 0 {
			from = "c"
		}
		if _, err := z.AnswerProof(ctx, from, q); !block.Is(err, block.NotFound) {
			t.Errorf("%s asks %+v: %v", from, q, err)
		}
	}
	pinned := func() (n bool) {
		t.Helper()
		z.update(func(tx *catalog.Tx) error {
			held, err := tx.PinnedPoints(ownVolume)
			n = held["point"]
			return err
		})
		return n
	}
	a, err := z.AnswerProof(ctx, "a", hold)
	if err != nil || a.Point != "point" || !pinned() {
		t.Fatalf("%+v, %v", a, err)
	}
	q := proof.Question{Verb: proof.Sums, Volume: ownVolume, Protection: 7, Point: a.Point,
		Ranges: []block.Range{{Off: 0, Len: 4096}, {Off: 4096, Len: 8192}}}
	if a, err := z.AnswerProof(ctx, "a", q); err != nil || len(a.Sums) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
	q.Verb = proof.Read
	if a, err := z.AnswerProof(ctx, "a", q); err != nil || len(a.Data) != 2 || len(a.Data[1]) != 8192 {
		t.Errorf("%+v, %v", a, err)
	}
	q.Ranges[1].Len = 1 << 30
	if _, err := z.AnswerProof(ctx, "a", q); err == nil {
		t.Error("a GiB is read at once")
	}
	q = proof.Question{Verb: proof.Release, Volume: "another", Protection: 7}
	if _, err := z.AnswerProof(ctx, "a", q); err != nil || !pinned() {
		t.Errorf("let go of with another volume of the protection: %v", err)
	}
	q.Volume = ownVolume
	if _, err := z.AnswerProof(ctx, "a", q); err != nil || pinned() {
		t.Errorf("kept after the end: %v", err)
	}
	if _, err := z.AnswerProof(ctx, "a", hold); err != nil {
		t.Fatal(err)
	}
	z.run(proofLease + 2*holdTick) // it never says that it is done
	if pinned() {
		t.Error("kept for ever")
	}
}

// TestVerifyNow: a tenant has the replicas of its own volumes read; what was
// found is the operation's evidence.
func TestVerifyNow(t *testing.T) {
	z, ctx := newHealthZone(t), t.Context()
	z.well()
	bak, err := z.set.Of("bak")
	if err != nil {
		t.Fatal(err)
	}
	if err := bak.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "replica", Name: "point"}); err != nil {
		t.Fatal(err)
	}
	z.Service.cfg.DR.Prover = proof.New(proof.Config{Catalog: z.catalog, Backends: z.set, Rate: 1 << 40,
		Now: z.clock.now})
	req := VerifyRequest{Volume: theirVolume, Key: "once"}
	for _, c := range []block.Caller{{Project: "m", Roles: []string{"member"}}} {
		if _, err := z.StartVerify(ctx, c, req); !block.Is(err, block.NotFound) {
			t.Errorf("another project: %v", err)
		}
	}
	if _, err := z.StartVerify(ctx, block.Caller{Project: "q", Roles: []string{"reader"}}, req); !block.Is(err,
		block.Forbidden) {
		t.Errorf("a reader: %v", err)
	}
	for i := range keepVerifications { // that ended
		z.update(func(tx *catalog.Tx) error {
			old := block.Operation{ID: fmt.Sprintf("old %d", i), Kind: block.OperationVerify, Project: "q",
				Status: block.OperationSucceeded}
			return tx.InsertOperation(&old, nil)
		})
		z.clock.pass(time.Second)
	}
	op, err := z.StartVerify(ctx, keepOwner, req)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := z.StartVerify(ctx, keepOwner, req); err != nil || again.ID != op.ID {
		t.Errorf("%+v, %v", again, err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	jobs := job.New(job.Config{Catalog: z.catalog, Handlers: z.Handlers(), Now: z.clock.now,
		Log: slog.New(slog.DiscardHandler)})
	go func() { done <- jobs.Run(running) }()
	var v OperationView
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if v, err = z.Operation(ctx, keepOwner, op.ID); err != nil || v.Status.Ended() {
			break
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil || v.Status != block.OperationSucceeded || len(v.Steps) != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	for id, want := range map[string]bool{"old 0": false, "old 1": true} {
		if _, err := z.Operation(ctx, keepOwner, id); (err == nil) != want {
			t.Errorf("%s: %v", id, err)
		}
	}
	var e VerifyEvidence
	if err := json.Unmarshal(v.Steps[0].Evidence, &e); err != nil || e.Point != "point" || e.Points != 1 ||
		e.Note == "" || e.Source != nil {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestNothingIsRecoveredFromDamage: a damaged point is passed over, and where all
// are damaged, nothing is chosen.
func TestNothingIsRecoveredFromDamage(t *testing.T) {
	z := newHealthZone(t)
	newest := func() (p block.Point, err error) {
		t.Helper()
		z.update(func(tx *catalog.Tx) error {
			r, failed := tx.Replica("replica")
			if failed == nil {
				p, err = newestWhole(tx, r)
			}
			return failed
		})
		return p, err
	}
	z.update(func(tx *catalog.Tx) error {
		r, err := tx.Replica("replica")
		if err != nil {
			return err
		}
		r.Newest = block.Point{ID: "newer", Volume: theirVolume, Epoch: 1, Sequence: 2, At: z.clock.now(), Size: 4096}
		return first(tx.InsertPoint("replica", r.Newest, block.RootHash{}), tx.UpdateReplica(r),
			tx.MarkPoint("replica", "newer", "rotten"))
	})
	if p, err := newest(); err != nil || p.ID != "point" {
		t.Errorf("%+v, %v", p, err)
	}
	z.update(func(tx *catalog.Tx) error { return tx.MarkPoint("replica", "point", "rotten too") })
	if p, err := newest(); !block.Is(err, block.Unavailable) {
		t.Errorf("%+v, %v", p, err)
	}
	z.update(func(tx *catalog.Tx) error { return tx.MarkPoint("replica", "newer", "") })
	if p, err := newest(); err != nil || p.ID != "newer" {
		t.Errorf("%+v, %v", p, err)
	}
}
