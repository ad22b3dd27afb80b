package catalog

import (
	"cmp"
	"fmt"
	"math/rand/v2"
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

// recounted is what the tables themselves say that a project holds.
func recounted(tx *Tx, project block.ProjectID) (block.Usage, error) {
	u := block.Usage{"volumes": 0, "snapshots": 0, "gigabytes": 0}
	for resource, query := range map[string]string{
		"volumes": `SELECT volume_types.name, 1, volumes.size FROM volumes
			LEFT JOIN volume_types ON volume_types.id = volumes.type_id`,
		"snapshots": `SELECT volume_types.name, 1, snapshots.size FROM snapshots LEFT JOIN volumes ON volumes.id = volume_id
			LEFT JOIN volume_types ON volume_types.id = volumes.type_id`} {
		_, err := collect(tx, func(row scanner) (struct{}, error) {
			var typeName string
			var n, size int64
			err := row.Scan(nullable(&typeName), &n, &size)
			addUsage(u, resource, typeName, n, size)
			return struct{}{}, err
		}, query+" WHERE "+resource+".project_id = $1", project)
		if err != nil {
			return nil, err
		}
	}
	return u, nil
}

// TestUsageFollowsEveryChange: whatever happens to volumes and snapshots, what is
// counted on the way is what is there.
func TestUsageFollowsEveryChange(t *testing.T) {
	c := memory(t)
	rnd := rand.New(rand.NewPCG(1, 170))
	projects, types := []block.ProjectID{"p", "q"}, []block.TypeID{"", "t", "u"}
	commit(t, c, func(tx *Tx) error {
		return cmp.Or(tx.UpsertType(block.VolumeType{ID: "t", Name: "gold"}),
			tx.UpsertType(block.VolumeType{ID: "u", Name: "tin"}))
	})
	any := func(kind string) string { return fmt.Sprint(kind, rnd.IntN(5)) }
	step := func(tx *Tx) error {
		v := block.Volume{ID: block.VolumeID(any("v")), Project: projects[rnd.IntN(2)], TypeID: types[rnd.IntN(3)],
			Size: rnd.Int64N(9)}
		switch rnd.IntN(7) {
		case 0, 1:
			return tx.InsertVolume(v)
		case 2:
			return tx.UpdateVolume(v)
		case 3:
			return tx.DeleteVolume(v.ID)
		case 4:
			_, err := tx.exec("DELETE FROM volumes WHERE id = $1", v.ID) // its snapshots are left
			return err
		case 5:
			return tx.InsertSnapshot(block.Snapshot{ID: block.SnapshotID(any("s")), VolumeID: v.ID, Project: v.Project,
				Size: v.Size})
		default:
			_, err := tx.exec("UPDATE snapshots SET project_id = $2, volume_id = $3, size = $4 WHERE id = $1", any("s"),
				v.Project, v.ID, v.Size)
			return err
		}
	}
	for range 2000 {
		err := c.Update(t.Context(), step)
		if err != nil && !block.Is(err, block.Conflict) && !block.Is(err, block.NotFound) {
			t.Fatal(err)
		}
		look(t, c, func(tx *Tx) error {
			for _, project := range projects {
				got, err1 := tx.VolumeUsage(project)
				want, err2 := recounted(tx, project)
				if diff := gocmp.Diff(want, got); diff != "" || err1 != nil || err2 != nil {
					t.Fatal(diff, err1, err2)
				}
			}
			return nil
		})
	}
}
