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
		from     VolumeStatus
		event    Event
		attached bool
		to       VolumeStatus // "-" for a Conflict
	}{
		{VolumeCreating, Done, false, VolumeAvailable},
		{VolumeCreating, Fail, false, VolumeError},
		{VolumeCreating, Delete, false, "-"},
		{VolumeAvailable, Reserve, false, VolumeAttaching},
		{VolumeAttaching, Attach, true, VolumeInUse},
		{VolumeAttaching, Unreserve, false, VolumeAvailable},
		{VolumeAttaching, Unreserve, true, VolumeInUse},
		{VolumeInUse, Delete, true, "-"},
		{VolumeInUse, BeginDetaching, true, VolumeDetaching},
		{VolumeDetaching, Detach, false, VolumeAvailable},
		{VolumeDetaching, Detach, true, VolumeInUse},
		{VolumeDetaching, RollDetaching, true, VolumeInUse},
		{VolumeInUse, Extend, true, VolumeExtending},
		{VolumeExtending, Done, true, VolumeInUse},
		{VolumeExtending, Done, false, VolumeAvailable},
		{VolumeExtending, Fail, true, VolumeErrorExtending},
		{VolumeUploading, Fail, false, VolumeAvailable},
		{VolumeDeleting, Done, false, volumeGone},
		{VolumeDeleting, Fail, false, VolumeErrorDeleting},
		{VolumeErrorDeleting, Delete, false, "-"},
		{VolumeInUse, ForceDelete, true, VolumeDeleting},
		{VolumeErrorDeleting, ForceDelete, false, VolumeDeleting},
		{"nonsense", Done, false, "-"},
	} {
		to, err := test.from.After(test.event, test.attached)
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
