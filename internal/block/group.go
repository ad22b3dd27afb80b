package block

import "time"

// The names of groups and what belongs to them.
type (
	GroupID         string
	GroupTypeID     string
	GroupSnapshotID string
)

// LegacyGroupType is the type of groups that the older API of consistency
// groups made; the API of groups does not show them (cinder/volume/group_types.py,
// default_cgsnapshot_type). Every catalog has it from the start.
const LegacyGroupType = GroupTypeID("5b1f1a0e-8d0c-4c63-9d0b-3f2b7f1c9a44")

// GroupType says what groups are for.
type GroupType struct {
	ID          GroupTypeID
	Name        string
	Description *string
	Public      bool
	Specs       map[string]string // never nil when read from the catalog

	CreatedAt, UpdatedAt time.Time
}

// Replicated reports whether groups of the type are meant to be replicated as
// one (cinder/objects/group.py, is_replicated).
func (t GroupType) Replicated() bool {
	return t.Specs["group_replication_enabled"] == "<is> True" ||
		t.Specs["consistent_group_replication_enabled"] == "<is> True"
}

// Group is a set of volumes that lie in one store and of which snapshots of one
// instant can be taken.
type Group struct {
	ID                GroupID
	Project           ProjectID
	User              UserID
	Name, Description *string
	Status            GroupStatus
	AvailabilityZone  string
	Type              GroupTypeID
	VolumeTypes       []TypeID // those that its volumes may have
	Unreplicated      bool     // its volumes are not replicated, whatever protects their types
	// What it was made of, if anything: one of the two.
	GroupSnapshotID *GroupSnapshotID
	SourceGroupID   *GroupID

	CreatedAt, UpdatedAt time.Time
}

// GroupSnapshot is one instant of all volumes of a group: a snapshot of each.
type GroupSnapshot struct {
	ID                GroupSnapshotID
	Project           ProjectID
	User              UserID
	Group             GroupID
	Type              GroupTypeID // of the group
	Name, Description *string
	Status            GroupStatus

	CreatedAt, UpdatedAt time.Time
}

// GroupStatus is the status of a group or of a group snapshot.
type GroupStatus string

// The statuses of cinder/objects/fields.py that something is ever in here. The
// last two are given by administrators alone.
const (
	GroupCreating      GroupStatus = "creating"
	GroupAvailable     GroupStatus = "available"
	GroupDeleting      GroupStatus = "deleting"
	GroupError         GroupStatus = "error"
	GroupUpdating      GroupStatus = "updating"
	GroupErrorDeleting GroupStatus = "error_deleting"
	groupGone          GroupStatus = "" // the row is removed
)

// groupTable is the only way the status of a group or a group snapshot moves,
// but for an administrator's reset_status (cinder/group/api.py).
var groupTable = map[GroupStatus]map[Event]GroupStatus{
	GroupCreating:      {Done: GroupAvailable, Fail: GroupError},
	GroupAvailable:     {Delete: GroupDeleting},
	GroupError:         {Delete: GroupDeleting},
	GroupDeleting:      {Done: groupGone, Fail: GroupError},
	GroupUpdating:      {},
	GroupErrorDeleting: {},
}

// After is VolumeStatus.After for groups and group snapshots.
func (s GroupStatus) After(e Event) (GroupStatus, error) {
	if e == ForceDelete {
		return GroupDeleting, nil
	}
	to, ok := groupTable[s][e]
	if !ok {
		return s, Errorf(Conflict, "a group in status %s does not allow %s", s, e)
	}
	return to, nil
}

// Valid reports whether s is a status that a group can have.
func (s GroupStatus) Valid() bool { _, ok := groupTable[s]; return ok }

// Passing reports whether s ends by itself; see VolumeStatus.Passing.
func (s GroupStatus) Passing() bool { _, ok := groupTable[s][Done]; return ok }
