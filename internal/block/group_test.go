package block

import "testing"

func TestGroupTable(t *testing.T) {
	checkTable(t, groupTable, groupGone)
	for s := range groupTable {
		if want := s == GroupCreating || s == GroupDeleting; s.Passing() != want || !s.Valid() {
			t.Errorf("status %s: passing %v, valid %v", s, s.Passing(), s.Valid())
		}
		if to, err := s.After(ForceDelete); to != GroupDeleting || err != nil {
			t.Errorf("force-delete leads from %s to %s, %v", s, to, err)
		}
	}
	if _, err := GroupUpdating.After(Delete); !Is(err, Conflict) {
		t.Errorf("deleting what is updated: %v", err)
	}
	if GroupStatus("").Valid() || GroupStatus("deleted").Valid() {
		t.Error("a status that is none is valid")
	}
}

func TestReplicatedGroupType(t *testing.T) {
	for spec, want := range map[string]bool{"group_replication_enabled": true,
		"consistent_group_replication_enabled": true, "consistent_group_snapshot_enabled": false} {
		if got := (GroupType{Specs: map[string]string{spec: "<is> True"}}).Replicated(); got != want {
			t.Errorf("%s: %v", spec, got)
		}
		if (GroupType{Specs: map[string]string{spec: "<is> False"}}).Replicated() {
			t.Errorf("%s is false", spec)
		}
	}
}
