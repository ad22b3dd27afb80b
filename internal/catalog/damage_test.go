package catalog

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
)

// TestDamages: an alarm keeps the time it was raised at while it stands, is
// listed until it is over, and stays as a record then.
func TestDamages(t *testing.T) {
	ctx := context.Background()
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	c, err := Open(ctx, optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put := func(d block.Damage) {
		t.Helper()
		if err := c.Update(ctx, func(tx *Tx) error { return tx.PutDamage(d) }); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	list := func(over bool) (all []block.Damage) {
		t.Helper()
		if err := c.View(ctx, func(tx *Tx) (err error) { all, err = tx.Damages("main", over, 10); return err }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	first := now
	d := block.Damage{Store: "main", Place: "a", What: "w", Volume: "v", Off: 4096, Len: 8192, Segment: 1<<32 - 1,
		SegmentAt: 64, State: block.DamageStands}
	put(d)
	put(block.Damage{Store: "other", Place: "a", State: block.DamageStands})
	d.Reason = "nobody has it"
	put(d)
	got := list(false)
	if len(got) != 1 || !got[0].Found.Equal(first) || !got[0].Changed.Equal(first.Add(2*time.Minute)) {
		t.Fatalf("standing: %+v", got)
	}
	want := d
	want.Found, want.Changed = got[0].Found, got[0].Changed
	if got[0] != want {
		t.Errorf("got %+v, want %+v", got[0], want)
	}
	d.State = "healed"
	put(d)
	if got := list(false); len(got) != 0 {
		t.Errorf("an alarm stands that is over: %+v", got)
	}
	if got := list(true); len(got) != 1 || got[0].State != "healed" || !got[0].Found.Equal(first) {
		t.Errorf("the record: %+v", got)
	}
	again := now
	d.State = block.DamageStands
	put(d)
	if got := list(false); len(got) != 1 || !got[0].Found.Equal(again) {
		t.Errorf("damaged again: %+v", got)
	}
}
