package block

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// VolumeStatus is a volume's status as the APIs show it.
type VolumeStatus string

// The statuses of the guide, in its order, and then the two that Cinder has
// beside them.
const (
	VolumeCreating        VolumeStatus = "creating"
	VolumeAvailable       VolumeStatus = "available"
	VolumeAttaching       VolumeStatus = "attaching"
	VolumeDetaching       VolumeStatus = "detaching"
	VolumeInUse           VolumeStatus = "in-use"
	VolumeMaintenance     VolumeStatus = "maintenance"
	VolumeDeleting        VolumeStatus = "deleting"
	VolumeTransfer        VolumeStatus = "awaiting-transfer"
	VolumeError           VolumeStatus = "error"
	VolumeErrorDeleting   VolumeStatus = "error_deleting"
	VolumeBackingUp       VolumeStatus = "backing-up"
	VolumeRestoring       VolumeStatus = "restoring-backup"
	VolumeErrorBackingUp  VolumeStatus = "error_backing-up"
	VolumeErrorRestoring  VolumeStatus = "error_restoring"
	VolumeErrorExtending  VolumeStatus = "error_extending"
	VolumeDownloading     VolumeStatus = "downloading"
	VolumeUploading       VolumeStatus = "uploading"
	VolumeRetyping        VolumeStatus = "retyping"
	VolumeExtending       VolumeStatus = "extending"
	VolumeReserved        VolumeStatus = "reserved"
	VolumeReverting       VolumeStatus = "reverting"
	volumeGone            VolumeStatus = "" // the row is removed
	volumeRest            VolumeStatus = "(in-use or available)"
	SnapshotCreating                   = SnapshotStatus("creating")
	SnapshotAvailable                  = SnapshotStatus("available")
	SnapshotBackingUp                  = SnapshotStatus("backing-up")
	SnapshotDeleting                   = SnapshotStatus("deleting")
	SnapshotError                      = SnapshotStatus("error")
	SnapshotDeleted                    = SnapshotStatus("deleted")
	SnapshotUnmanaging                 = SnapshotStatus("unmanaging")
	SnapshotRestoring                  = SnapshotStatus("restoring")
	SnapshotErrorDeleting              = SnapshotStatus("error_deleting")
)

// SnapshotStatus is a snapshot's status as the APIs show it.
type SnapshotStatus string

// Event is something that happens to a volume or a snapshot and may move its
// status.
type Event string

// The events. Done and Fail end whatever is under way; the others begin
// something or are the steps of attaching.
const (
	Done           Event = "done"
	Fail           Event = "fail"
	Download       Event = "download"        // fetching the image begins
	Reserve        Event = "reserve"         // os-reserve
	ReserveHost    Event = "reserve-host"    // attachment create without a connector
	Unreserve      Event = "unreserve"       // os-unreserve
	Attach         Event = "attach"          // os-attach
	BeginDetaching Event = "begin-detaching" // os-begin_detaching
	RollDetaching  Event = "roll-detaching"  // os-roll_detaching
	Detach         Event = "detach"          // os-detach, attachment delete
	Extend         Event = "extend"
	Upload         Event = "upload" // os-volume_upload_image
	Retype         Event = "retype"
	Delete         Event = "delete"
	ForceDelete    Event = "force-delete"
	BackUp         Event = "back-up"
	Restore        Event = "restore"
	Revert         Event = "revert"
	OfferTransfer  Event = "offer-transfer"
	EndTransfer    Event = "end-transfer" // accepted or withdrawn
	Maintain       Event = "maintain"
	Unmanage       Event = "unmanage"
)

// volumeTable is the only way a volume's status moves, but for an
// administrator's os-reset_status. The rules are those of
// cinder/volume/api.py; volumeRest stands for what Volume.Rest says.
var volumeTable = map[VolumeStatus]map[Event]VolumeStatus{
	VolumeCreating:    {Done: VolumeAvailable, Fail: VolumeError, Download: VolumeDownloading},
	VolumeDownloading: {Done: volumeRest, Fail: VolumeError},
	VolumeAvailable: {
		Reserve: VolumeAttaching, ReserveHost: VolumeReserved, Unreserve: VolumeAvailable, Attach: VolumeInUse,
		RollDetaching: VolumeAvailable, Detach: volumeRest, Extend: VolumeExtending, Upload: VolumeUploading,
		Retype: VolumeRetyping, Delete: VolumeDeleting, BackUp: VolumeBackingUp, Restore: VolumeRestoring,
		Revert: VolumeReverting, OfferTransfer: VolumeTransfer, Maintain: VolumeMaintenance,
		Download: VolumeDownloading,
	},
	VolumeReserved: {
		Reserve: VolumeAttaching, ReserveHost: VolumeReserved, Unreserve: VolumeReserved, Attach: VolumeInUse,
		Detach: volumeRest, RollDetaching: VolumeReserved, Download: VolumeDownloading,
	},
	VolumeAttaching: {
		Attach: VolumeInUse, Unreserve: volumeRest, Detach: volumeRest, RollDetaching: VolumeAttaching,
		ReserveHost: VolumeAttaching,
	},
	VolumeInUse: {
		Reserve: VolumeAttaching, ReserveHost: VolumeReserved, Unreserve: VolumeInUse, Attach: VolumeInUse,
		BeginDetaching: VolumeDetaching, RollDetaching: VolumeInUse, Detach: volumeRest,
		Extend: VolumeExtending, Upload: VolumeUploading, Retype: VolumeRetyping, BackUp: VolumeBackingUp,
		Maintain: VolumeMaintenance,
	},
	VolumeDetaching:      {Detach: volumeRest, RollDetaching: VolumeInUse, Unreserve: VolumeDetaching},
	VolumeMaintenance:    {Done: volumeRest, Fail: volumeRest},
	VolumeDeleting:       {Done: volumeGone, Fail: VolumeErrorDeleting},
	VolumeTransfer:       {EndTransfer: VolumeAvailable},
	VolumeError:          {Delete: VolumeDeleting, Download: VolumeDownloading, Detach: VolumeError},
	VolumeErrorDeleting:  {Detach: VolumeErrorDeleting},
	VolumeBackingUp:      {Done: volumeRest, Fail: volumeRest}, // the backup is in error, not the volume
	VolumeRestoring:      {Done: VolumeAvailable, Fail: VolumeErrorRestoring},
	VolumeErrorBackingUp: {},
	VolumeErrorRestoring: {Delete: VolumeDeleting},
	VolumeErrorExtending: {Delete: VolumeDeleting, Detach: VolumeErrorExtending},
	VolumeUploading:      {Done: volumeRest, Fail: volumeRest},
	VolumeRetyping:       {Done: volumeRest, Fail: volumeRest},
	VolumeExtending:      {Done: volumeRest, Fail: VolumeErrorExtending},
	VolumeReverting:      {Done: VolumeAvailable, Fail: VolumeError},
}

// snapshotTable is volumeTable's fellow for snapshots.
var snapshotTable = map[SnapshotStatus]map[Event]SnapshotStatus{
	SnapshotCreating: {Done: SnapshotAvailable, Fail: SnapshotError},
	SnapshotAvailable: {
		Delete: SnapshotDeleting, BackUp: SnapshotBackingUp, Restore: SnapshotRestoring, Unmanage: SnapshotUnmanaging,
	},
	SnapshotBackingUp:     {Done: SnapshotAvailable, Fail: SnapshotAvailable},
	SnapshotRestoring:     {Done: SnapshotAvailable, Fail: SnapshotAvailable},
	SnapshotDeleting:      {Done: SnapshotDeleted, Fail: SnapshotErrorDeleting},
	SnapshotUnmanaging:    {Done: SnapshotDeleted, Fail: SnapshotError},
	SnapshotError:         {Delete: SnapshotDeleting, Unmanage: SnapshotUnmanaging},
	SnapshotErrorDeleting: {},
	SnapshotDeleted:       {},
}

// After returns the status that event e leads to. rest is Volume.Rest once the
// event has happened. ForceDelete leads from every
// status to deleting. The result "" means that the volume is gone. An event
// that the status does not allow is a Conflict; the caller says so in its own
// words where its API has some.
func (s VolumeStatus) After(e Event, rest VolumeStatus) (VolumeStatus, error) {
	if e == ForceDelete {
		return VolumeDeleting, nil
	}
	to, ok := volumeTable[s][e]
	if !ok {
		return s, Errorf(Conflict, "a volume in status %s does not allow %s", s, e)
	}
	if to == volumeRest {
		return rest, nil
	}
	return to, nil
}

// Valid reports whether s is a status that a volume can have.
func (s VolumeStatus) Valid() bool { _, ok := volumeTable[s]; return ok }

// Passing reports whether s is a status that ends by itself, since a job is
// under way; a volume must never stay in one.
func (s VolumeStatus) Passing() bool { _, ok := volumeTable[s][Done]; return ok }

// Rests reports whether s ends by itself in what the attachments say
// (Volume.Rest): they may change meanwhile.
func (s VolumeStatus) Rests() bool { return volumeTable[s][Done] == volumeRest }

// After is VolumeStatus.After for snapshots; the status "deleted" means that
// the row is removed.
func (s SnapshotStatus) After(e Event) (SnapshotStatus, error) {
	if e == ForceDelete {
		return SnapshotDeleting, nil
	}
	to, ok := snapshotTable[s][e]
	if !ok {
		return s, Errorf(Conflict, "a snapshot in status %s does not allow %s", s, e)
	}
	return to, nil
}

// Valid reports whether s is a status that a snapshot can have.
func (s SnapshotStatus) Valid() bool { _, ok := snapshotTable[s]; return ok }

// Passing reports whether s ends by itself; see VolumeStatus.Passing.
func (s SnapshotStatus) Passing() bool { _, ok := snapshotTable[s][Done]; return ok }

// StatusDocument draws the tables as Markdown; docs/states.md is its output.
func StatusDocument() string {
	var b strings.Builder
	b.WriteString("# Statuses\n\n[Disaster recovery](#disaster-recovery) is at the end.\n\n" +
		"Drawn from the tables in `internal/block/status.go` and `backup.go` by a test; " +
		"do not edit.\n" +
		"`(in-use or available)` is in-use while a host holds the volume, else attaching or reserved " +
		"while attachments are about to, else available. " +
		"`force-delete` leads from every status to deleting.\n")
	draw(&b, "Volumes", volumeTable)
	draw(&b, "Snapshots", snapshotTable)
	draw(&b, "Backups", backupTable)
	draw(&b, "Groups and group snapshots", groupTable)
	return b.String()
}

func draw[S ~string](b *strings.Builder, title string, table map[S]map[Event]S) {
	fmt.Fprintf(b, "\n## %s\n\n| from | event | to |\n|---|---|---|\n", title)
	for _, from := range slices.Sorted(maps.Keys(table)) {
		if len(table[from]) == 0 {
			fmt.Fprintf(b, "| %s | | |\n", from)
		}
		for _, e := range slices.Sorted(maps.Keys(table[from])) {
			to := table[from][e]
			if to == "" {
				to = "gone"
			}
			fmt.Fprintf(b, "| %s | %s | %s |\n", from, e, to)
		}
	}
}
