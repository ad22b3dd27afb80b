package dr

import (
	"encoding/json"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

// when is a time in RFC 3339, or null for none.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

type zoneBody struct {
	Zone   block.Zone `json:"zone"`
	Index  int        `json:"index"`
	Region string     `json:"region"`
	URL    string     `json:"url"`
	Own    bool       `json:"own"`   // the zone that answers
	AsOf   *time.Time `json:"as_of"` // of what is known of it
	Heard  *time.Time `json:"heard"` // when that came here
}

func zoneView(z control.KnownZone) zoneBody {
	return zoneBody{z.Zone, z.Index, z.Region, z.URL, z.Own, when(z.At), when(z.Heard)}
}

type protectionBody struct {
	Seq             int64        `json:"seq"`
	SourceZone      block.Zone   `json:"source_zone"`
	SourceType      block.TypeID `json:"source_type"`
	SourceBackend   string       `json:"source_backend"`
	Destination     block.Zone   `json:"destination"`
	BackupBackend   string       `json:"backup_backend"`
	IntervalSeconds float64      `json:"interval_seconds"`
	TargetSeconds   float64      `json:"rpo_target_seconds"`
	Retention       []tierBody   `json:"retention"`
	Enabled         bool         `json:"enabled"`
	Status          string       `json:"status"`
	Transport       string       `json:"transport"` // how bytes are to go: stream or rbd-mirror
}

func protectionView(p control.Pair) protectionBody {
	return protectionBody{
		p.Seq, p.SourceZone, p.SourceType, p.Source.Name, p.Destination, p.Backup.Name, p.Interval.Seconds(),
		p.RPO().Seconds(), each(p.Retention.Tiers, tierView), p.Enabled, p.Status,
		p.Transport.String(),
	}
}

type tierBody struct {
	Step float64 `json:"step_seconds"`
	For  float64 `json:"for_seconds"`
}

func tierView(t block.RetentionTier) tierBody { return tierBody{t.Step.Seconds(), t.For.Seconds()} }

type pointBody struct {
	ID       block.PointID  `json:"id"`
	Name     string         `json:"name"` // id of the tenant's snapshot; "" for others
	At       time.Time      `json:"at"`
	Sequence uint64         `json:"sequence"`
	Epoch    uint64         `json:"epoch"`
	Size     int64          `json:"size"`
	Root     block.RootHash `json:"root"`
	Newest   bool           `json:"newest"`
	// Cut is what points of one instant of a group's volumes have in common; null
	// for one that was cut alone.
	Cut *block.GroupCut `json:"cut"`
	// In the list of a volume's points only:
	Keeps []keepBody `json:"keeps,omitempty"`
	Stats *statsBody `json:"stats,omitempty"` // what changed since the point before
	// Damaged is why its bytes are not what was committed; nothing recovers from it.
	Damaged string `json:"damaged,omitempty"`
}

func pointView(p block.Point, newest block.PointID) pointBody {
	return pointBody{p.ID, p.Name, p.At.UTC(), p.Sequence, p.Epoch, p.Size, p.Root, p.ID == newest, p.Cut, nil, nil, ""}
}

type replicaBody struct {
	ID           block.VolumeID  `json:"id"`
	SourceZone   block.Zone      `json:"source_zone"`
	VolumeID     block.VolumeID  `json:"volume_id"`
	Name         *string         `json:"name"`
	Project      block.ProjectID `json:"project_id"`
	Protection   int64           `json:"protection"`
	Backend      string          `json:"backend"`
	Epoch        uint64          `json:"epoch"`
	ReplicatedTo *time.Time      `json:"replicated_up_to"`
	Newest       *pointBody      `json:"newest"`
	Receiving    bool            `json:"receiving"` // a point was begun and is not committed
	DeletedAt    *time.Time      `json:"source_deleted_at"`
	Transport    *string         `json:"transport"` // of its protection; null where that is not known (any more)
	Points       []pointBody     `json:"points,omitempty"`
	Proof        *proofBody      `json:"verification,omitempty"`
	Suspicion    *suspicionBody  `json:"suspicion,omitempty"` // with points, where it looks encrypted
}

// transportsOf is how bytes are to go, by the protection.
func transportsOf(all []block.Protection) map[block.ProtectionKey]*string {
	by := make(map[block.ProtectionKey]*string, len(all))
	for _, p := range all {
		text := p.Transport.String()
		by[p.Key()] = &text
	}
	return by
}

func replicaView(r block.Replica, by map[block.ProtectionKey]*string) replicaBody {
	b := replicaBody{
		ID: r.ID, SourceZone: r.SourceZone, VolumeID: r.Source, Name: r.Entry.Volume.Name,
		Project: r.Entry.Volume.Project, Protection: r.Protection, Backend: r.Backend, Epoch: r.Epoch,
		ReplicatedTo: when(r.Current), Receiving: r.Pending != nil, DeletedAt: when(r.DeletedAt), Transport: by[r.Policy()],
	}
	if r.Newest.ID != "" {
		p := pointView(r.Newest, r.Newest.ID)
		b.Newest = &p
	}
	return b
}

func replicaPointsView(r control.ReplicaPoints, by map[block.ProtectionKey]*string) replicaBody {
	b := replicaView(r.Replica, by)
	b.Points = each(r.Points, func(p block.Point) pointBody {
		one := pointView(p, r.Newest.ID)
		for _, k := range r.Keeps {
			if k.Point == p.ID {
				one.Keeps = append(one.Keeps, keepView(k))
			}
		}
		if st, ok := r.Stats[p.ID]; ok {
			one.Stats = statsView(st)
		}
		one.Damaged = r.Damaged[p.ID]
		return one
	})
	b.Proof = proofView(r.Proof)
	if r.Suspicion != nil {
		b.Suspicion = suspicionView(*r.Suspicion)
	}
	return b
}

type linkBody struct {
	VolumeID     block.VolumeID  `json:"volume_id"`
	Project      block.ProjectID `json:"project_id"`
	Protection   int64           `json:"protection"`
	Destination  block.Zone      `json:"destination"`
	State        string          `json:"state"`
	ReplicatedTo *time.Time      `json:"replicated_up_to"`
	Unreplicated bool            `json:"unreplicated"` // the target may lack something
	Since        *time.Time      `json:"unreplicated_since"`
	LastError    string          `json:"last_error"`
	BytesSent    int64           `json:"bytes_sent"`
	Transfer     *transferBody   `json:"transfer"`          // null unless something takes long
	Whole        string          `json:"whole_copy_reason"` // why the way back was no difference; "" for no reason
	Transport    string          `json:"transport"`         // of the confirmed point's bytes: stream or rbd-mirror
	Confirmed    *pointBody      `json:"confirmed"`
}

// transferBody is a first copy, or a difference of many bytes, that is under way.
type transferBody struct {
	First bool       `json:"first_copy"`
	Total int64      `json:"bytes_total"`
	Done  int64      `json:"bytes_done"`
	Began time.Time  `json:"resumed_at"` // when this attempt began
	ETA   *time.Time `json:"eta"`
}

func linkView(l control.SourceLink) linkBody {
	b := linkBody{
		VolumeID: l.Volume, Project: l.Project, Protection: l.Protection, Destination: l.Destination,
		State: string(l.State), ReplicatedTo: when(l.Current), LastError: l.Error, BytesSent: l.BytesSent,
		Whole: l.Whole, Transport: l.Transport.String(),
		Unreplicated: l.Target != nil || l.Confirmed.ID == "" || !l.UnreplicatedSince.IsZero(),
		Since:        when(l.UnreplicatedSince),
	}
	if l.Confirmed.ID != "" {
		p := pointView(l.Confirmed, l.Confirmed.ID)
		b.Confirmed = &p
	}
	if t := l.Transfer; t.Total > 0 {
		b.Transfer = &transferBody{t.First, t.Total, t.Done, t.Began.UTC(), when(l.Ready)}
	}
	return b
}

type operationBody struct {
	Kind            block.DRKind    `json:"kind"`
	Rowkey          int64           `json:"rowkey"`
	Status          block.DRStatus  `json:"status"`
	Message         string          `json:"message"`
	Notes           []string        `json:"notes"`
	SourceZone      block.Zone      `json:"source_zone"`
	SourceType      block.TypeID    `json:"source_type"`
	SourceVolume    string          `json:"source_volume,omitempty"`
	SourceSnapshot  string          `json:"source_snapshot,omitempty"`
	Destination     block.Zone      `json:"destination"`
	DestinationType block.TypeID    `json:"destination_type"`
	Project         block.ProjectID `json:"project_id"`
	NewVolume       block.VolumeID  `json:"new_volume"`
	Point           *pointBody      `json:"point"` // the recovery point that is used
	BytesDone       int64           `json:"bytes_done"`
	BytesTotal      int64           `json:"bytes_total"`
	Step            string          `json:"step"`
	Attempts        int             `json:"attempts"`
	LastError       string          `json:"last_error"`
	Evidence        json.RawMessage `json:"evidence,omitempty"`
	Start           *time.Time      `json:"start"`
	End             *time.Time      `json:"end"`
	Seconds         *float64        `json:"seconds"` // from start to end
	Copy            bool            `json:"copy"`    // told by the copy of a zone that can't be reached
	AsOf            *time.Time      `json:"as_of"`   // of that copy
}

func operationView(op control.DROperation) operationBody {
	b := operationBody{
		Kind: op.Request.Kind, Rowkey: op.Rowkey, Status: op.Status, Message: op.Message,
		Notes: append([]string{}, op.Notes...), SourceZone: op.Request.SourceZone, SourceType: op.Request.SourceType,
		SourceVolume: string(op.Request.SourceVolume), SourceSnapshot: string(op.Request.SourceSnapshot),
		Destination: op.Request.Destination, DestinationType: op.Request.DestinationType,
		Project: op.Request.Project, NewVolume: op.NewVolume, BytesDone: op.BytesDone, BytesTotal: op.BytesTotal,
		Step: op.Step, Attempts: op.Attempts, LastError: op.Error, Evidence: op.Evidence,
		Start: when(op.Start), End: when(op.End), Copy: op.Fresh.Copy, AsOf: when(op.Fresh.AsOf),
	}
	if op.Point != nil {
		p := pointView(*op.Point, "")
		b.Point = &p
	}
	if !op.End.IsZero() {
		took := op.End.Sub(op.Start).Seconds()
		b.Seconds = &took
	}
	return b
}
