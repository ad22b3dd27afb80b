package block

// FindingKind is what a doctor can find.
type FindingKind string

// The kinds of findings, the worst first. Those that are mended are only let go
// of: what a tenant wrote is never deleted.
const (
	FindDamagedSource  FindingKind = "damaged-source"     // a volume that is not in its own zone what was committed
	FindDamagedReplica FindingKind = "damaged-replica"    // recovery points that are not what was committed
	FindUnverified     FindingKind = "unverified-replica" // a replica that was not read again for too long
	FindUnprotected    FindingKind = "unprotected"        // a volume that nothing replicates, though something should
	FindNoRecentPoint  FindingKind = "no-recent-point"    // a pair of which the newest points are old
	FindPeerSilent     FindingKind = "peer-silent"        // a zone that was not heard of for long
	FindClocksApart    FindingKind = "clocks-apart"       // two zones' clocks differ
	FindRival          FindingKind = "rival"              // a volume that two zones took over
	FindAuditBroken    FindingKind = "audit-broken"       // an audit log that is not what was written
	FindStalePrimary   FindingKind = "stale-primary"      // a volume that lives on in another zone
	FindRefusedRelay   FindingKind = "refused-relay"      // a relay of another zone that this one takes nothing by
	FindOrphanReplica  FindingKind = "orphan-replica"     // a replica of no protection
	FindOrphanVolume   FindingKind = "orphan-volume"      // bytes in a store that belong to nothing in the catalog
	FindTemporary      FindingKind = "temporary-volume"   // a copy that a move left on another store
	FindUnknown        FindingKind = "unknown-snapshot"   // a snapshot in a store that nobody knows
	FindLeakedPin      FindingKind = "leaked-pin"         // a pin of a holder that is gone
	FindLeakedCut      FindingKind = "leaked-cut"         // a snapshot that replication made and no pair needs
	FindLeakedLink     FindingKind = "leaked-link"        // a link of a volume that is gone
)

// Finding is one thing that is not as it should be: what it is, and what to do.
type Finding struct {
	Kind       FindingKind `json:"kind"`
	Text       string      `json:"text"`
	Advice     string      `json:"advice"`
	Mends      string      `json:"mends"` // what mending would do; "" where only people can
	Mended     bool        `json:"mended"`
	Volume     VolumeID    `json:"volume_id"` // or the replica
	Project    ProjectID   `json:"project_id"`
	SourceZone Zone        `json:"source_zone"`
	Peer       Zone        `json:"peer"`
	Protection int64       `json:"protection"`
	Point      PointID     `json:"point"`
	Holder     string      `json:"holder"` // of a pin
	Store      string      `json:"store"`
}

// FindingKinds are all kinds.
var FindingKinds = []FindingKind{
	FindDamagedSource,
	FindDamagedReplica,
	FindUnverified,
	FindUnprotected,
	FindNoRecentPoint,
	FindPeerSilent,
	FindClocksApart,
	FindRival,
	FindAuditBroken,
	FindStalePrimary,
	FindRefusedRelay,
	FindOrphanReplica,
	FindOrphanVolume,
	FindTemporary,
	FindUnknown,
	FindLeakedPin,
	FindLeakedCut,
	FindLeakedLink,
}
