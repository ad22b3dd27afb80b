package block

import (
	"encoding/hex"
	"time"
)

// Protection is a policy: volumes of a type in a source zone are replicated to
// a backup backend in another zone. It is one row of `GET /api/kvol/list`.
type Protection struct {
	Seq         int64 // order and identity among those of SourceZone; see Key
	SourceZone  Zone
	SourceType  TypeID
	Source      Backend // of the source type
	Destination Zone
	Backup      Backend // in the destination zone
	Interval    time.Duration
	Retention   Retention
	Enabled     bool
	// RPOTarget is how far the replica may be behind; see RPO for 0.
	RPOTarget time.Duration
	// Via, if not "", is the zone that sends its replicas of the protection Follows
	// on to Destination: the points of SourceZone's volumes, by the same names.
	Via     Zone  `json:",omitempty"`
	Follows int64 `json:",omitempty"`
	// Lease, if not 0, is how long hosts in the source zone may write without the
	// destination's word that it does not take the volume over; MaxLease at most.
	Lease time.Duration
	// Transport is how bytes get to the destination.
	Transport Transport `json:",omitempty"`
}

// Transport is a way for the bytes of points; everything else about points goes
// by the stream.
type Transport string

// The transports.
const (
	TransportStream Transport = ""           // by the stream, too
	TransportMirror Transport = "rbd-mirror" // by the mirroring of the Ceph clusters, where a volume can be mirrored
)

// String is how users see a transport.
func (t Transport) String() string {
	if t == TransportStream {
		return "stream"
	}
	return string(t)
}

// MinLease and MaxLease bound a Protection's Lease.
const (
	MinLease = 200 * time.Millisecond
	MaxLease = 10 * time.Minute
)

// ProtectionKey names a protection among those of all zones.
type ProtectionKey struct {
	SourceZone Zone
	Seq        int64
}

// Key names the protection among those of all zones, each of which has numbers of
// its own.
func (p Protection) Key() ProtectionKey { return ProtectionKey{p.SourceZone, p.Seq} }

// Sender is the zone from which the destination gets the points.
func (p Protection) Sender() Zone {
	if p.Via != "" {
		return p.Via
	}
	return p.SourceZone
}

// RPO is how far a replica may be behind: RPOTarget, else three intervals and
// at least the 15 s in which an idle volume is heard of three times.
func (p Protection) RPO() time.Duration {
	if p.RPOTarget > 0 {
		return p.RPOTarget
	}
	return max(3*p.Interval, 15*time.Second)
}

// Retention says how recovery points thin out. Each tier keeps the newest
// point of every Step for For; points older than all tiers go, the newest
// committed one and named ones never.
type Retention struct {
	Tiers []RetentionTier
}

// RetentionTier is one step of a Retention.
type RetentionTier struct {
	Step, For time.Duration
}

// Point is a recovery point: a moment of a volume that both ends name alike.
// It is whole or absent, never half.
type Point struct {
	ID       PointID
	Volume   VolumeID // in the source zone
	Epoch    uint64
	Sequence uint64    // rises by one with each point of a volume's epoch
	At       time.Time // the instant on the source's clock at which it was cut
	Size     int64     // bytes
	Root     RootHash  // of the content; checked at both ends before commit
	Parent   PointID   // the base it was sent from; "" for a full copy
	Name     string    // a tenant's snapshot keeps its id here; "" otherwise
	// Cut is what tells points of one instant of a group's volumes; nil for one that
	// was cut alone.
	Cut *GroupCut `json:",omitempty"`
}

// GroupCut is an instant at which volumes of a group were cut together. It is
// whole where all Members have their point of it.
type GroupCut struct {
	ID      string  `json:"id"`
	Group   GroupID `json:"group_id"`
	Members int     `json:"members"`
	Of      int     `json:"of"` // volumes that the group had; others were not replicated yet, or failed
}

// RootHash names a volume's whole content.
type RootHash [32]byte

// String is the hash in hexadecimal digits.
func (h RootHash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hexadecimal digits.
func (h RootHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits; all else is Invalid.
func (h *RootHash) UnmarshalText(text []byte) error {
	if n, err := hex.Decode(h[:], text[:min(len(text), 64)]); err != nil || n != len(h) || len(text) != 64 {
		return Errorf(Invalid, "a root hash has 64 hexadecimal digits")
	}
	return nil
}

// Replica is the copy of a protected volume in a backup zone: its bytes in a
// store, and everything the source's catalog knew of it. It is no volume.
type Replica struct {
	ID         VolumeID // the volume in the backup store, under its own id
	SourceZone Zone
	Source     VolumeID  // the volume it copies
	Protection int64     // Seq
	Backend    string    // backup backend, in this zone
	Epoch      uint64    // the highest epoch seen or given; a sender with a lower one is refused
	Entry      Entry     // the source's catalog entry as of the newest point
	Newest     Point     // newest committed point; zero before the first
	Current    time.Time // the source's content was that of Newest as of this instant of its clock
	Pending    *Step     // a step that was begun and not committed
	Holders    []Zone    // that have replicas of the volume, as its source told; nil where it did not
	DeletedAt  time.Time
	UpdatedAt  time.Time
	CreatedAt  time.Time
}

// Policy names the protection under which the replica is kept.
func (r Replica) Policy() ProtectionKey { return ProtectionKey{r.SourceZone, r.Protection} }

// Entry is a volume's catalog entry as it travels with its points.
type Entry struct {
	Volume    Volume
	TypeName  string
	Snapshots []Snapshot
	// Key is an encrypted volume's key, sealed for the zone that the entry goes
	// to; nobody else can open it.
	Key []byte `json:",omitempty"`
}

// Step is one transfer: from a base point (zero for a full copy) to a target
// point under an epoch.
type Step struct {
	Base, Target Point
	Epoch        uint64
}

// Fence tells that a volume of a zone was recovered elsewhere.
type Fence struct {
	SourceZone Zone
	Source     VolumeID
	Recovered  Recovered
}

// DRKind is what a job of the kvol API does.
type DRKind string

// The two kinds, each with rowkeys of its own.
const (
	DRCreate   DRKind = "create"
	DRRecovery DRKind = "recovery"
)

// DRRequest is a call of kvol's create or recovery.
type DRRequest struct {
	Kind            DRKind     `json:"kind"`
	SourceZone      Zone       `json:"source_zone"`
	SourceType      TypeID     `json:"source_type"`
	SourceVolume    VolumeID   `json:"source_volume,omitempty"`   // recovery
	SourceSnapshot  SnapshotID `json:"source_snapshot,omitempty"` // create
	Bootable        bool       `json:"bootable"`
	Destination     Zone       `json:"destination"`
	Project         ProjectID  `json:"project"`
	DestinationType TypeID     `json:"destination_type"`
	IdempotencyKey  string     `json:"idempotency_key,omitempty"`
}

// DRStatus is the state of a DRJob as the kvol document spells it.
type DRStatus string

// The states of a DRJob.
const (
	DRReady   DRStatus = "READY"
	DRRunning DRStatus = "RUNNING"
	DRSuccess DRStatus = "SUCCESS"
	DRFail    DRStatus = "FAIL"
)

// DRJob is a row of createlist or recoverylist, with the evidence behind it.
type DRJob struct {
	Rowkey         int64     `json:"rowkey"`
	Request        DRRequest `json:"request"`
	Status         DRStatus  `json:"status"`
	Message        string    `json:"message"`         // "OK", a reason, or ""
	NewVolume      VolumeID  `json:"new_volume"`      // "" until known
	ReplicaZone    Zone      `json:"replica_zone"`    // src_zone_id: where the copy lies
	ReplicaSVM     string    `json:"replica_svm"`     // src_svm_name: the backup backend
	DestinationSVM string    `json:"destination_svm"` // dst_svm_name: the destination type's backend
	Point          *Point    `json:"point,omitempty"` // the recovery point that was used
	BytesDone      int64     `json:"bytes_done"`
	BytesTotal     int64     `json:"bytes_total"`
	Notes          []string  `json:"notes,omitempty"` // what was out of the ordinary: "over quota: ..."
	Start          time.Time `json:"start"`
	End            time.Time `json:"end"` // zero until ended
}
