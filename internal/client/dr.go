package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Point is a recovery point. At is the instant on the source's clock.
type Point struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	At       time.Time `json:"at"`
	Sequence uint64    `json:"sequence"`
	Epoch    uint64    `json:"epoch"`
	Size     int64     `json:"size"` // bytes
	Root     string    `json:"root"` // hex
	Newest   bool      `json:"newest"`
	Cut      *Cut      `json:"cut"` // of a group; nil where the volume was cut alone
	// Of ReplicasOf only: what pins or holds it, and what changed.
	Keeps []Keep      `json:"keeps"`
	Stats *PointStats `json:"stats"`
	// Damaged is why its bytes are not what was committed; "" if they are.
	Damaged string `json:"damaged"`
}

// Replica is the copy of a protected volume in the session's zone.
type Replica struct {
	ID         string  `json:"id"`
	SourceZone string  `json:"source_zone"`
	VolumeID   string  `json:"volume_id"`
	Backend    string  `json:"backend"`
	Epoch      uint64  `json:"epoch"`
	Newest     *Point  `json:"newest"`           // nil: none yet
	Points     []Point `json:"points,omitempty"` // of ReplicasOf only
	// ReplicatedUpTo is the instant of which the replica is a whole copy; zero: none.
	ReplicatedUpTo time.Time  `json:"replicated_up_to,omitzero"`
	Transport      string     `json:"transport"` // of its protection; "" where that is not known (any more)
	Receiving      bool       `json:"receiving"` // a point was begun and is not whole
	Suspicion      *Suspicion `json:"suspicion"` // of ReplicasOf only
}

// Link is the source's side of a pair: how far its replication is.
type Link struct {
	VolumeID       string    `json:"volume_id"`
	Destination    string    `json:"destination"`
	ReplicatedUpTo time.Time `json:"replicated_up_to,omitzero"` // zero: nothing yet
	LastError      string    `json:"last_error"`
	BytesSent      int64     `json:"bytes_sent"`        // on the wire, since the link was made
	WholeReason    string    `json:"whole_copy_reason"` // why all of a recovered volume went back; "" for no reason
	Transport      string    `json:"transport"`         // of the confirmed point's bytes: stream or rbd-mirror
	Confirmed      *Point    `json:"confirmed"`         // the newest that the backup zone has
	State          string    `json:"state"`
	Protection     int64     `json:"protection"`
	Transfer       *Transfer `json:"transfer"` // nil unless something takes long
}

// Transfer is a first copy, or a difference of many bytes, that is under way.
type Transfer struct {
	First bool       `json:"first_copy"`
	Total int64      `json:"bytes_total"`
	Done  int64      `json:"bytes_done"`
	ETA   *time.Time `json:"eta"`
}

// Operation is a create or a recovery, with the evidence of what it did.
type Operation struct {
	Kind      string `json:"kind"`
	Rowkey    int64  `json:"rowkey"`
	Status    string `json:"status"`
	Message   string `json:"message"`
	NewVolume string `json:"new_volume"`
	Point     *Point `json:"point"`
}

// dr sends a request to the disaster recovery API, which lies beside the
// block storage API at the zone's address.
func (s *Session) dr(ctx context.Context, path string, out any) error {
	return s.drCall(ctx, http.MethodGet, path, nil, out)
}

// drCall is dr with a method and a body.
func (s *Session) drCall(ctx context.Context, method, path string, in, out any) error {
	base, err := s.URL(blockStorage)
	if err != nil {
		return err
	}
	root, _, found := strings.Cut(base, "/v2/")
	if !found {
		return fmt.Errorf("the block storage endpoint %s has no /v2/ in it", base)
	}
	_, _, err = exchange{http: s.http, method: method, url: root + "/api/dr/v1" + path, in: in, out: out,
		header: http.Header{"X-Auth-Token": {s.Token}}}.do(ctx)
	return err
}

// Protection is a policy as the session's zone has heard of it.
type Protection struct {
	Seq           int64   `json:"seq"`
	SourceZone    string  `json:"source_zone"`
	SourceType    string  `json:"source_type"`
	SourceBackend string  `json:"source_backend"`
	Destination   string  `json:"destination"`
	BackupBackend string  `json:"backup_backend"`
	Interval      float64 `json:"interval_seconds"`
	Target        float64 `json:"rpo_target_seconds"`
	Enabled       bool    `json:"enabled"`
	Status        string  `json:"status"`    // active or inactive
	Transport     string  `json:"transport"` // stream or rbd-mirror
}

// Protections lists all policies that the zone has heard of, for administrators.
func (s *Session) Protections(ctx context.Context) ([]Protection, error) {
	var out struct {
		Protections []Protection `json:"protections"`
	}
	err := s.dr(ctx, "/protections", &out)
	return out.Protections, err
}

// Replicas lists the replicas that the zone keeps.
func (s *Session) Replicas(ctx context.Context) ([]Replica, error) {
	var out struct {
		Replicas []Replica `json:"replicas"`
	}
	err := s.dr(ctx, "/replicas", &out)
	return out.Replicas, err
}

// ReplicasOf shows the replicas of one volume, one for each protection that
// ends in the session's zone, with their points.
func (s *Session) ReplicasOf(ctx context.Context, zone, volume string) ([]Replica, error) {
	var out struct {
		Replicas []Replica `json:"replicas"`
	}
	err := s.dr(ctx, "/replicas/"+url.PathEscape(zone)+"/"+url.PathEscape(volume), &out)
	return out.Replicas, err
}

// Links lists how far the zone's own volumes are replicated.
func (s *Session) Links(ctx context.Context) ([]Link, error) {
	var out struct {
		Links []Link `json:"links"`
	}
	err := s.dr(ctx, "/links", &out)
	return out.Links, err
}

// Operation shows a create or a recovery by its rowkey.
func (s *Session) Operation(ctx context.Context, kind string, rowkey int64) (Operation, error) {
	var out struct {
		Operation Operation `json:"operation"`
	}
	err := s.dr(ctx, fmt.Sprintf("/operations/%s/%d", kind, rowkey), &out)
	return out.Operation, err
}
