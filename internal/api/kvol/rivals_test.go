package kvol_test

import (
	"context"
	"fmt"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// order is one by which mitaka1 moves the source volume to kilo1 as planned.
func (z *zone) order(point block.Point) control.TakeoverOrder {
	return control.TakeoverOrder{ID: "o", Epoch: 1, Point: point.ID, Root: point.Root, Request: block.DRRequest{
		Kind: block.DRRecovery, SourceZone: "mitaka1", SourceType: sourceType, SourceVolume: sourceID, Destination: "kilo1",
		Project: tenant, DestinationType: targetType, IdempotencyKey: "failover/o"}}
}

// TestTakeoverIsAnsweredThoughItWasRecoveredOnceMore: the answer to a planned
// failover was lost, and the volume is recovered once more in the zone that took
// it over. Asked again, that zone still says where the volume lives on; else the
// zone that waits for it would wait for ever.
func TestTakeoverIsAnsweredThoughItWasRecoveredOnceMore(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	o := k.order(k.addReplica("now"))
	if answer, err := k.service.Promote(t.Context(), "mitaka1", o); err != nil || answer != (control.Takeover{}) {
		t.Fatalf("%+v, %v", answer, err)
	}
	k.runJobs(1)
	rowkey := k.begin("recovery", nil)
	k.runJobs(1)
	again := k.row("recovery", rowkey)
	for name, ask := range map[string]func(context.Context, block.Zone, control.TakeoverOrder) (control.Takeover, error){
		"promote": k.service.Promote, "leave": k.service.Leave} {
		answer, err := ask(t.Context(), "mitaka1", o)
		if err != nil || answer.Recovered == nil || answer.Refused != "" ||
			string(answer.Recovered.Volume) != *again.NewVolume {
			t.Errorf("%s: %+v, %v; it lives on as %s", name, answer, err, *again.NewVolume)
		}
	}
}

// TestWhoDidNotTakeOverSaysWhereItLivesOn: a destination that was asked to leave
// a volume, and knows that it was recovered otherwise, does not let its zone
// believe that it may write.
func TestWhoDidNotTakeOverSaysWhereItLivesOn(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	o := k.order(k.addReplica("now"))
	rowkey := k.begin("recovery", nil)
	answer, err := k.service.Leave(t.Context(), "mitaka1", o)
	if err != nil || answer.Refused == "" || answer.Recovered == nil ||
		string(answer.Recovered.Volume) != *k.row("recovery", rowkey).NewVolume {
		t.Errorf("%+v, %v", answer, err)
	}
}

// TestManyVolumesAreBidForInOneQuestion: a recovery of many volumes asks each
// third zone twice, once to tell what would be refused and once to take over.
func TestManyVolumesAreBidForInOneQuestion(t *testing.T) {
	const n = 300
	w := newWorld(t)
	k := w.zones["kilo1"]
	k.addReplica("now")
	k.must(func(tx *catalog.Tx) error {
		one, err := tx.ReplicaOf("mitaka1", sourceID, 2)
		for i := 0; i < n && err == nil; i++ {
			r := one
			r.ID, r.Source = block.VolumeID(block.NewID()), block.VolumeID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
			r.Entry.Volume.ID, r.Entry.Volume.Project = r.Source, tenant
			if err = tx.InsertReplica(r); err == nil {
				err = tx.InsertPoint(r.ID, r.Newest, block.RootHash{})
			}
		}
		return err
	})
	admin := block.Caller{Project: tenant, Roles: []string{"admin"}}
	op, _, err := k.service.StartRecovery(t.Context(), admin, block.RecoveryRequest{AcceptLoss: true, OverQuota: true,
		Scope: block.RecoveryScope{Zone: "mitaka1"}, SkipUnrecoverable: true,
		Mapping: block.RecoveryMapping{Type: map[string]string{"*": string(targetType)}}})
	if err != nil {
		t.Fatal(err)
	}
	k.runJobs(1)
	if v, err := k.service.Operation(t.Context(), admin, op.ID); err != nil || len(v.Steps) < n {
		t.Fatalf("%d steps, %v", len(v.Steps), err)
	}
	if asked := w.zones["kilo2"].asked.Load(); asked != 2 {
		t.Errorf("kilo2 was asked %d times", asked)
	}
	w.zones["kilo2"].must(func(tx *catalog.Tx) error {
		bids, err := tx.BidsFor("mitaka1", "00000000-0000-4000-8000-000000000299")
		if len(bids) != 1 || bids[0].Zone != "kilo1" || bids[0].Epoch != 64+24 {
			t.Errorf("%+v", bids)
		}
		return err
	})
}
