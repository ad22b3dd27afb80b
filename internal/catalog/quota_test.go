package catalog

import (
	"cmp"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"kvol/internal/block"
)

func TestQuotaLimits(t *testing.T) {
	c := memory(t)
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(tx.SetQuota("p", "volumes", 5), tx.SetQuota("p", "volumes", block.Unlimited),
			tx.SetQuota("p", "gigabytes_gold", 0), tx.SetQuota("q", "volumes", 1))
	})
	wantLimits := func(project block.ProjectID, want map[string]int64) {
		t.Helper()
		look(t, c, func(tx *Tx) error {
			got, err := tx.QuotaLimits(project)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	}
	wantLimits("p", map[string]int64{"volumes": -1, "gigabytes_gold": 0})
	commit(t, c, func(tx *Tx) error { return tx.DeleteQuotas("p") })
	wantLimits("p", map[string]int64{})
	wantLimits("q", map[string]int64{"volumes": 1})
}

func TestUsage(t *testing.T) {
	c := memory(t)
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(
			tx.UpsertType(block.VolumeType{ID: "t", Name: "gold"}),
			tx.InsertVolume(block.Volume{ID: "1", Project: "p", Size: 10, TypeID: "t", Status: block.VolumeError}),
			tx.InsertVolume(block.Volume{ID: "2", Project: "p", Size: 5, TypeID: "t"}),
			tx.InsertVolume(block.Volume{ID: "3", Project: "p", Size: 1}),
			tx.InsertVolume(block.Volume{ID: "4", Project: "q", Size: 100}),
			tx.InsertSnapshot(block.Snapshot{ID: "1", VolumeID: "1", Project: "p", Size: 10}),
			tx.InsertSnapshot(block.Snapshot{ID: "2", VolumeID: "3", Project: "p", Size: 1}),
			tx.InsertSnapshot(block.Snapshot{ID: "3", VolumeID: "gone", Project: "p", Size: 1}),
			tx.InsertBackup(block.Backup{ID: "1", VolumeID: "gone", Project: "p", Size: 7}),
			tx.InsertBackup(block.Backup{ID: "2", VolumeID: "1", Project: "q", Size: 1}),
		)
	})
	look(t, c, func(tx *Tx) error {
		got, err := tx.Usage("p")
		want := block.Usage{"volumes": 3, "snapshots": 3, "gigabytes": 28, "groups": 0,
			"volumes_gold": 2, "snapshots_gold": 1, "gigabytes_gold": 25, "backups": 1, "backup_gigabytes": 7}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		return err
	})
}

// TestUsageHoldsAmongCreators lets many create at once what only some may.
func TestUsageHoldsAmongCreators(t *testing.T) {
	const limit, creators, each = 20, 8, 8
	c := open(t, filepath.Join(t.TempDir(), "catalog.db"))
	var made atomic.Int64
	var all sync.WaitGroup
	for i := range creators {
		all.Go(func() {
			for k := range each {
				err := c.Update(t.Context(), func(tx *Tx) error {
					used, err := tx.Usage("p")
					if err != nil {
						return err
					}
					if over := block.Exceeded(used, block.Usage{"gigabytes": 3}, func(string) int64 { return limit }); over != nil {
						return block.Errorf(block.OverLimit, "full")
					}
					return tx.InsertVolume(block.Volume{ID: block.VolumeID(fmt.Sprint(i, k)), Project: "p", Size: 3})
				})
				if err == nil {
					made.Add(1)
				} else if !block.Is(err, block.OverLimit) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	look(t, c, func(tx *Tx) error {
		used, err := tx.Usage("p")
		if used["gigabytes"] != 18 || used["volumes"] != made.Load() {
			t.Errorf("%d created, %v in use", made.Load(), used)
		}
		return err
	})
}
