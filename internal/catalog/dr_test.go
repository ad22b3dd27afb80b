package catalog

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
)

func openDR(t *testing.T) *Catalog {
	t.Helper()
	now := time.Date(2018, 9, 11, 2, 37, 41, 0, time.UTC)
	c, err := Open(context.Background(), optionsAt(t, func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func update(t *testing.T, c *Catalog, fn func(*Tx) error) {
	t.Helper()
	if err := c.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func TestDRJobs(t *testing.T) {
	c := openDR(t)
	update(t, c, func(tx *Tx) error {
		for i, key := range []string{"", "", "k"} {
			j := block.DRJob{Rowkey: int64(64*(3-i) + 1), Start: tx.Now.Add(time.Duration(i) * time.Second)}
			j.Request = block.DRRequest{Kind: block.DRRecovery, IdempotencyKey: key}
			if err := tx.InsertDRJob(j); err != nil {
				return err
			}
		}
		other := block.DRJob{Rowkey: 193, Start: tx.Now, Request: block.DRRequest{Kind: block.DRCreate, IdempotencyKey: "k"}}
		return tx.InsertDRJob(other)
	})
	update(t, c, func(tx *Tx) error {
		taken := block.DRJob{Rowkey: 65, Start: tx.Now, Request: block.DRRequest{Kind: block.DRRecovery}}
		if err := tx.InsertDRJob(taken); !block.Is(err, block.Conflict) {
			t.Errorf("a taken rowkey: %v", err)
		}
		taken.Rowkey, taken.Request.IdempotencyKey = 99, "k"
		if err := tx.InsertDRJob(taken); !block.Is(err, block.Conflict) {
			t.Errorf("a used key: %v", err)
		}
		if err := tx.UpdateDRJob(taken); !block.Is(err, block.NotFound) {
			t.Errorf("update of none: %v", err)
		}
		if _, err := tx.DRJob(block.DRCreate, 65); !block.Is(err, block.NotFound) {
			t.Errorf("a recovery's rowkey among creates: %v", err)
		}
		if _, err := tx.DRJobWithKey(block.DRRecovery, ""); !block.Is(err, block.NotFound) {
			t.Errorf("no key: %v", err)
		}
		j, err := tx.DRJobWithKey(block.DRRecovery, "k")
		if err != nil || j.Rowkey != 65 {
			t.Errorf("by key: %d, %v", j.Rowkey, err)
		}
		j.Status, j.Point = block.DRSuccess, &block.Point{ID: "p", Root: block.RootHash{7}, At: tx.Now}
		return tx.UpdateDRJob(j)
	})
	update(t, c, func(tx *Tx) error {
		j, err := tx.DRJob(block.DRRecovery, 65)
		if err != nil || j.Status != block.DRSuccess || j.Point.Root != (block.RootHash{7}) || !j.Point.At.Equal(tx.Now) {
			t.Errorf("read back %+v, %v", j, err)
		}
		newest, err := tx.DRJobs(block.DRRecovery, 2)
		if err != nil || len(newest) != 2 || newest[0].Rowkey != 65 || newest[1].Rowkey != 129 {
			t.Errorf("newest %+v, %v", newest, err)
		}
		return nil
	})
}

func TestPeerDocuments(t *testing.T) {
	c := openDR(t)
	update(t, c, func(tx *Tx) error {
		for _, d := range [][2]string{{"kilo2", "1"}, {"kilo1", "1"}, {"kilo2", "2"}} {
			if err := tx.PutPeerDocument(block.Zone(d[0]), []byte(d[1])); err != nil {
				return err
			}
		}
		docs, err := tx.PeerDocuments()
		if err != nil || len(docs) != 2 || docs[0].Zone != "kilo1" || string(docs[1].Text) != "2" ||
			!docs[0].Received.Equal(tx.Now) {
			t.Errorf("documents %+v, %v", docs, err)
		}
		return nil
	})
}
