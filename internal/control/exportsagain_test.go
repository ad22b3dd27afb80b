package control_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// TestLookAgainCostsWhatChanged: of many exports that are open only those are asked
// of the catalog that another process names.
func TestLookAgainCostsWhatChanged(t *testing.T) {
	const many = 200
	var statements atomic.Int64
	c, err := catalog.Open(t.Context(), catalog.Options{Observe: func(text string) {
		if strings.HasPrefix(text, "SELECT") {
			statements.Add(1)
		}
	}})
	must(t, err)
	defer func() { must(t, c.Close()) }()
	store := mem.New(mem.Options{})
	set, err := driver.NewSet(map[string]driver.Driver{"one": store}, []block.Backend{{Name: "fast", Store: "one"}})
	must(t, err)
	s, err := control.New(
		control.Config{Catalog: c, Backends: set, Zone: "mitaka1", Key: [32]byte{1}, TempDir: t.TempDir(),
			ExportAddress: func() string { return "[::1]:10809" }},
	)
	must(t, err)
	caller := block.Caller{Project: "p", User: "u", Roles: []string{"admin"}}
	var ids []string
	opened := map[string]<-chan struct{}{}
	for range many {
		id := block.VolumeID(block.NewID())
		must(t, store.CreateVolume(t.Context(), id, block.GiB))
		must(t, c.Update(t.Context(), func(tx *catalog.Tx) error {
			return tx.InsertVolume(block.Volume{ID: id, Project: "p", User: "u", Size: 1, Status: block.VolumeAvailable,
				Backend: "fast", AvailabilityZone: "z", Epoch: 1, ReplicationStatus: block.ReplicationDisabled,
				Metadata: map[string]string{}})
		}))
		info, err := s.InitializeConnection(t.Context(), caller, id, map[string]any{"host": "h"})
		must(t, err)
		name, _ := info.Data["export"].(string)
		x, err := s.Exports().Open(context.WithoutCancel(t.Context()), name)
		must(t, err)
		defer x.Release()
		ids, opened[string(id)] = append(ids, string(id)), x.Revoked
	}
	gone := ids[7]
	must(t, c.Update(t.Context(), func(tx *catalog.Tx) error {
		v, err := tx.Volume(block.VolumeID(gone))
		if err != nil {
			return err
		}
		v.Readonly = true
		return tx.UpdateVolume(v)
	}))
	cost := func(all bool, about ...string) int64 {
		before := statements.Load()
		must(t, s.LookAgain(t.Context(), all, about...))
		return statements.Load() - before
	}
	if n := cost(false); n != 0 {
		t.Errorf("%d statements for nothing", n)
	}
	one := cost(false, gone, block.NewID())
	select {
	case <-opened[gone]:
	default:
		t.Error("an export that may not write any more was not ended")
	}
	if all := cost(true); one*many > all {
		t.Errorf("%d statements for one export, %d for all %d", one, all, many)
	}
	for _, id := range ids {
		select {
		case <-opened[id]:
			if id != gone {
				t.Error("an export was ended that nothing was changed of")
			}
		default:
		}
	}
	t.Logf("of %d exports that are open, one costs %d statements", many, one)
}
