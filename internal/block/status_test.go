package block

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("update", false, "write the documents that are drawn from tables")

// The statuses that the guide of the v2 API lists.
var (
	guideVolumes = []VolumeStatus{"creating", "available", "attaching", "detaching", "in-use", "maintenance",
		"deleting", "awaiting-transfer", "error", "error_deleting", "backing-up", "restoring-backup",
		"error_backing-up", "error_restoring", "error_extending", "downloading", "uploading", "retyping", "extending"}
	guideSnapshots = []SnapshotStatus{"creating", "available", "backing-up", "deleting", "error", "deleted",
		"unmanaging", "restoring", "error_deleting"}
)

func TestEveryStatusOfTheGuide(t *testing.T) {
	for _, s := range append(guideVolumes, "reserved", "reverting") {
		if !s.Valid() {
			t.Errorf("volumes lack the status %s", s)
		}
	}
	if n := len(volumeTable); n != len(guideVolumes)+2 {
		t.Errorf("volumes have %d statuses", n)
	}
	for _, s := range guideSnapshots {
		if !s.Valid() {
			t.Errorf("snapshots lack the status %s", s)
		}
	}
	if n := len(snapshotTable); n != len(guideSnapshots) {
		t.Errorf("snapshots have %d statuses", n)
	}
	if VolumeStatus("").Valid() || VolumeStatus("In-Use").Valid() || volumeRest.Valid() || SnapshotStatus("").Valid() {
		t.Error("a status that is none is valid")
	}
}

// TestTables: every way leads to a status that exists, what passes ends either
// way, and from everywhere there is a way out.
func TestTables(t *testing.T) {
	checkTable(t, volumeTable, volumeGone, volumeRest)
	checkTable(t, snapshotTable)
	// What a job works on while it has this status; the others wait for somebody.
	passing := []VolumeStatus{"backing-up", "creating", "deleting", "downloading", "extending", "maintenance",
		"restoring-backup", "retyping", "reverting", "uploading"}
	for s := range volumeTable {
		if s.Passing() != slices.Contains(passing, s) {
			t.Errorf("volume status %s: passing %v", s, s.Passing())
		}
	}
	for s := range snapshotTable {
		want := slices.Contains([]SnapshotStatus{"backing-up", "creating", "deleting", "restoring", "unmanaging"}, s)
		if s.Passing() != want {
			t.Errorf("snapshot status %s: passing %v", s, s.Passing())
		}
	}
}

func checkTable[S ~string](t *testing.T, table map[S]map[Event]S, others ...S) {
	t.Helper()
	for from, ways := range table {
		for e, to := range ways {
			if _, ok := table[to]; !ok && !slices.Contains(others, to) {
				t.Errorf("%s leads from %s to %q, which is no status", e, from, to)
			}
		}
		_, done := ways[Done]
		_, fail := ways[Fail]
		if done != fail {
			t.Errorf("%s: done %v, fail %v; what ends by itself ends either way", from, done, fail)
		}
	}
}

func TestAfter(t *testing.T) {
	for _, test := range []struct {
		from  VolumeStatus
		event Event
		rest  VolumeStatus
		to    VolumeStatus // "-" for a Conflict
	}{
		{VolumeCreating, Done, VolumeAvailable, VolumeAvailable},
		{VolumeCreating, Fail, VolumeAvailable, VolumeError},
		{VolumeCreating, Delete, VolumeAvailable, "-"},
		{VolumeAvailable, Reserve, VolumeAvailable, VolumeAttaching},
		{VolumeAttaching, Attach, VolumeInUse, VolumeInUse},
		{VolumeAttaching, Unreserve, VolumeAvailable, VolumeAvailable},
		{VolumeAttaching, Unreserve, VolumeInUse, VolumeInUse},
		{VolumeInUse, Delete, VolumeInUse, "-"},
		{VolumeInUse, BeginDetaching, VolumeInUse, VolumeDetaching},
		{VolumeDetaching, Detach, VolumeAvailable, VolumeAvailable},
		{VolumeDetaching, Detach, VolumeInUse, VolumeInUse},
		{VolumeDetaching, RollDetaching, VolumeInUse, VolumeInUse},
		{VolumeInUse, Extend, VolumeInUse, VolumeExtending},
		{VolumeExtending, Done, VolumeInUse, VolumeInUse},
		{VolumeExtending, Done, VolumeAvailable, VolumeAvailable},
		{VolumeExtending, Fail, VolumeInUse, VolumeErrorExtending},
		{VolumeUploading, Fail, VolumeAvailable, VolumeAvailable},
		{VolumeUploading, Fail, VolumeReserved, VolumeReserved},
		{VolumeBackingUp, Done, VolumeAttaching, VolumeAttaching},
		{VolumeDeleting, Done, VolumeAvailable, volumeGone},
		{VolumeDeleting, Fail, VolumeAvailable, VolumeErrorDeleting},
		{VolumeErrorDeleting, Delete, VolumeAvailable, "-"},
		{VolumeInUse, ForceDelete, VolumeInUse, VolumeDeleting},
		{VolumeErrorDeleting, ForceDelete, VolumeAvailable, VolumeDeleting},
		{"nonsense", Done, VolumeAvailable, "-"},
	} {
		to, err := test.from.After(test.event, test.rest)
		switch {
		case test.to == "-":
			if !Is(err, Conflict) || to != test.from {
				t.Errorf("%s from %s: %q, %v; want a conflict", test.event, test.from, to, err)
			}
		case to != test.to || err != nil:
			t.Errorf("%s from %s: %q, %v; want %q", test.event, test.from, to, err, test.to)
		}
	}
	for from, ways := range snapshotTable {
		for _, e := range append(slices.Collect(maps.Keys(ways)), ForceDelete, Attach) {
			want, ok := ways[e]
			if e == ForceDelete {
				want, ok = SnapshotDeleting, true
			}
			if to, err := from.After(e); ok != (err == nil) || ok && to != want || !ok && !Is(err, Conflict) {
				t.Errorf("snapshot %s from %s: %q, %v", e, from, to, err)
			}
		}
	}
}

// TestRest: who holds the volume counts more than who is about to.
func TestRest(t *testing.T) {
	for _, test := range []struct {
		attachments string
		rest        VolumeStatus
	}{
		{"", VolumeAvailable},
		{"reserved", VolumeReserved},
		{"attaching reserved", VolumeAttaching},
		{"reserved attaching", VolumeAttaching},
		{"reserved attaching attached reserved", VolumeInUse},
	} {
		var v Volume
		for _, status := range strings.Fields(test.attachments) {
			v.Attachments = append(v.Attachments, Attachment{Status: status})
		}
		if rest := v.Rest(); rest != test.rest {
			t.Errorf("attachments %q: %s, want %s", test.attachments, rest, test.rest)
		}
	}
	for status := range volumeTable {
		if status.Rests() && !status.Passing() {
			t.Errorf("%s ends at rest, but not by itself", status)
		}
	}
}

// TestStatusDocument compares the beginning of docs/states.md with the tables;
// -update writes it. The rest is drawn from internal/drmodel.
func TestStatusDocument(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "states.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const rest = "\n## Disaster recovery\n"
	got, after, _ := strings.Cut(string(text), rest)
	want := StatusDocument()
	if *rewrite {
		if err := os.WriteFile(path, []byte(want+rest+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s is not what the tables say; go test ./internal/block -update writes it", path)
	}
}
