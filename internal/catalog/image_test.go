package catalog

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kvol/internal/block"
)

// An image reads back as it was written, NULLs included.
func TestImageReadsBack(t *testing.T) {
	c, now := identities(t)
	name, format, size := "disk", "raw", int64(5)
	full := Image{ID: "i1", Owner: "p1", Name: &name, Status: "active", Visibility: "private", DiskFormat: &format,
		ContainerFormat: &format, Protected: true, MinDisk: 1, MinRAM: 2, Size: &size, VirtualSize: &size,
		Checksum: &name, HashValue: &name, Tags: []string{"a"}, Properties: map[string]string{"k": "v"}, Upload: "u",
		CreatedAt: *now, UpdatedAt: *now}
	bare := Image{ID: "i2", Owner: "p1", Status: "queued", Visibility: "shared", Tags: []string{},
		Properties: map[string]string{}, CreatedAt: *now, UpdatedAt: *now}
	for _, want := range []Image{full, bare} {
		inUpdate(t, c, func(tx *Tx) error {
			if err := tx.InsertImage(want); err != nil {
				return err
			}
			got, err := tx.Image(want.ID)
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if err := tx.InsertImage(want); !block.Is(err, block.Conflict) {
				t.Errorf("the same id again: %v", err)
			}
			return err
		})
	}
	*now = now.Add(time.Second)
	inUpdate(t, c, func(tx *Tx) error {
		full.Properties["k"] = "other"
		full.UpdatedAt = tx.Now
		if err := tx.UpdateImage(full); err != nil {
			return err
		}
		got, err := tx.Image(full.ID)
		if d := cmp.Diff(full, got); d != "" {
			t.Error(d)
		}
		if sum, err := tx.ImageBytes("p1"); sum != 5 || err != nil {
			t.Errorf("the project's images have %d bytes, %v", sum, err)
		}
		if err := tx.UpdateImage(Image{ID: "i9"}); !block.Is(err, block.NotFound) {
			t.Errorf("update of none: %v", err)
		}
		if err := tx.DeleteImage("i9"); !block.Is(err, block.NotFound) {
			t.Errorf("delete of none: %v", err)
		}
		return err
	})
}

// Lists show what the viewer may see, filtered, ordered and cut as asked.
func TestImages(t *testing.T) {
	c, now := identities(t)
	for _, i := range []Image{
		{ID: "1", Owner: "p1", Visibility: "private", Tags: []string{"a_b", `q"`}, Properties: map[string]string{"os": "x"}},
		{ID: "2", Owner: "p1", Visibility: "public", Tags: []string{"axb"}},
		{ID: "3", Owner: "p2", Visibility: "shared"},
		{ID: "4", Owner: "p2", Visibility: "public", Properties: map[string]string{"os": "y"}},
		{ID: "5", Owner: "p2", Visibility: "community"},
	} {
		size := int64(len(i.ID)) * int64(i.ID[0]-'0')
		i.Size = &size
		inUpdate(t, c, func(tx *Tx) error { return tx.InsertImage(i) })
		*now = now.Add(time.Second)
	}
	three := int64(3)
	for _, c2 := range []struct {
		q    ImageQuery
		want string
	}{
		{ImageQuery{Viewer: "p1", Limit: -1}, "421"},
		{ImageQuery{Viewer: "p2", Limit: -1}, "5432"},
		{ImageQuery{Viewer: "p1", Community: true, Limit: -1}, "5421"},
		{ImageQuery{All: true, Community: true, Limit: -1}, "54321"},
		{ImageQuery{Viewer: "p1", Limit: 2}, "42"},
		{ImageQuery{Viewer: "p1", Marker: "2", Limit: 2}, "1"},
		{ImageQuery{Viewer: "p1", Limit: -1, Sort: []block.SortKey{{Column: "size"}}, Marker: "1"}, "24"},
		{ImageQuery{Viewer: "p1", Limit: -1, Sort: []block.SortKey{{Column: "name"}}, Marker: "2"}, "4"},
		{ImageQuery{Viewer: "p1", Limit: -1, Filters: map[string]string{"os": "x"}}, "1"},
		{ImageQuery{Viewer: "p1", Limit: -1, Filters: map[string]string{"owner": "p2", "os": "y"}}, "4"},
		{ImageQuery{Viewer: "p1", Limit: -1, Tags: []string{"a_b"}}, "1"},
		{ImageQuery{Viewer: "p1", Limit: -1, Tags: []string{`q"`, "a_b"}}, "1"},
		{ImageQuery{Viewer: "p1", Limit: -1, Tags: []string{"%"}}, ""},
		{ImageQuery{All: true, Limit: -1, SizeMin: &three}, "43"},
		{ImageQuery{All: true, Limit: -1, SizeMax: &three}, "321"},
	} {
		inUpdate(t, c, func(tx *Tx) error {
			all, err := tx.Images(c2.q)
			var got strings.Builder
			for _, i := range all {
				got.WriteString(string(i.ID))
			}
			if got.String() != c2.want {
				t.Errorf("%+v: %q, want %q", c2.q, got.String(), c2.want)
			}
			return err
		})
	}
	err := c.View(t.Context(), func(tx *Tx) error {
		_, err := tx.Images(ImageQuery{All: true, Sort: []block.SortKey{{Column: "id; --"}}})
		return err
	})
	if !block.Is(err, block.Invalid) {
		t.Errorf("unknown sort key: %v", err)
	}
}
