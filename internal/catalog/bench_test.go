package catalog

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/block"
)

// filled is a catalog on disk with many volumes of one project, each attached.
func filled(b *testing.B, volumes int) *Catalog {
	c := open(b, filepath.Join(b.TempDir(), "catalog.db"))
	commit(b, c, func(tx *Tx) error {
		if err := tx.UpsertType(block.VolumeType{ID: "t", Name: "gold"}); err != nil {
			return err
		}
		for i := range volumes {
			v := fullVolume()
			v.ID = block.VolumeID(fmt.Sprintf("v%08d", i))
			v.CreatedAt = v.CreatedAt.Add(time.Duration(i) * time.Second)
			if err := tx.InsertVolume(v); err != nil {
				return err
			}
			a := v.Attachments[0]
			a.ID, a.VolumeID = block.AttachmentID(v.ID), v.ID
			if err := tx.InsertAttachment(a); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// BenchmarkDetail reads a page of 1,000 of 10,000 volumes in detail, from the
// start and from the middle.
func BenchmarkDetail(b *testing.B) {
	c := filled(b, 10_000)
	for name, marker := range map[string]string{"first": "", "middle": "v00005000"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				look(b, c, func(tx *Tx) error {
					all, err := tx.Volumes(block.ListQuery{Project: "p", Limit: 1000, Marker: marker})
					if len(all) != 1000 || len(all[0].Attachments) != 1 {
						b.Fatal("not all")
					}
					return err
				})
			}
		})
	}
}

// BenchmarkUsage counts a project of 10,000 volumes, as each create does.
func BenchmarkUsage(b *testing.B) {
	c := filled(b, 10_000)
	for b.Loop() {
		look(b, c, func(tx *Tx) error { _, err := tx.Usage("p"); return err })
	}
}

// BenchmarkVolume reads one volume with its attachments.
func BenchmarkVolume(b *testing.B) {
	c := filled(b, 1000)
	for b.Loop() {
		look(b, c, func(tx *Tx) error { _, err := tx.Volume("v00000500"); return err })
	}
}

// BenchmarkUpdate commits a row durably, by one writer and by many.
func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			c := open(b, filepath.Join(b.TempDir(), "catalog.db"))
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c.Update(b.Context(), func(tx *Tx) error { _, err := tx.Next("n"); return err }); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
