package control_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

// TestBringBackOthers: a zone gets nothing back that did not come from it, under
// the id that it had there.
func TestBringBackOthers(t *testing.T) {
	z := newZone(t)
	own := z.make(control.NewVolume{Size: ptr(int64(1))})
	came := z.make(control.NewVolume{Size: ptr(int64(1))})
	row := z.volume(came.ID)
	row.RecoveredFrom = &block.Origin{Zone: "kilo1", Volume: "there"}
	z.update(func(tx *catalog.Tx) error { return tx.UpdateVolume(row) })
	order := control.ReturnOrder{Begin: 16, Volumes: []control.Returning{{Volume: own.ID, Source: "there"},
		{Volume: came.ID, Source: "another"}, {Volume: came.ID, Source: "there"}, {Volume: "gone", Source: "x"}}}
	states, err := z.BringBack(z.ctx, "kilo2", order)
	must(t, err)
	no := control.ReturnRefused
	for i, want := range []string{no, no, no, control.ReturnDone} {
		if states[i].State != want {
			t.Errorf("to another zone: volume %d is %+v, want %s", i, states[i], want)
		}
	}
	states, err = z.BringBack(z.ctx, "kilo1", order)
	must(t, err)
	if states[1].State != control.ReturnRefused || states[2].State != control.ReturnRefused ||
		states[2].Message != "Volume "+string(came.ID)+" is not replicated to zone kilo1." {
		t.Errorf("to its own zone: %+v", states)
	}
	order.Volumes = make([]control.Returning, 501)
	if _, err := z.BringBack(z.ctx, "kilo1", order); !block.Is(err, block.Invalid) {
		t.Errorf("too many: %v", err)
	}
}
