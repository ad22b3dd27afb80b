package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Store is an embedded store of the session's zone. All of this file is for
// administrators.
type Store struct {
	Name   string      `json:"name"`
	Status StoreStatus `json:"status"`
	Run    *StoreRun   `json:"run"` // that is under way, or the last one; nil for none
}

// StoreStatus is how a store is; sizes are bytes.
type StoreStatus struct {
	Level         string    `json:"level"`
	Generation    uint32    `json:"generation"`
	Unclean       bool      `json:"unclean"`
	Opened        time.Time `json:"opened"`
	Sequence      uint64    `json:"sequence"`
	Total         int64     `json:"total_bytes"`
	Free          int64     `json:"free_bytes"`
	Segments      int       `json:"segments"`
	EmptySegments int       `json:"empty_segments"`
	LiveBytes     int64     `json:"live_bytes"`
	GarbageBytes  int64     `json:"garbage_bytes"`
	IndexBytes    int64     `json:"index_bytes"`
	MemoryBytes   int64     `json:"memory_bytes"`
	Volumes       int       `json:"volumes"`
	Snapshots     int       `json:"snapshots"`
	Branches      int       `json:"branches"`
	Damaged       int64     `json:"damaged"`
	Healed        int64     `json:"healed"`
	Error         string    `json:"error"`
}

// StoreRun is a check or a scrub of a store.
type StoreRun struct {
	ID    int64  `json:"id"`
	Store string `json:"store"`
	Kind  string `json:"kind"`  // check or scrub
	State string `json:"state"` // running, done, cancelled or failed
	MiB   int64  `json:"mib_s"`
	Done  int64  `json:"bytes_done"`
	Total int64  `json:"bytes_total"`
	Found int    `json:"found"` // places that are damaged, or were and are healed
	Error string `json:"error"`
}

// StoreDamage is a range of a volume, or something else in a store, that is not
// as it was written.
type StoreDamage struct {
	What       string    `json:"what"`
	VolumeID   string    `json:"volume_id"`
	VolumeName string    `json:"volume_name"`
	ReplicaOf  string    `json:"replica_of_zone"`
	Source     string    `json:"replica_of_volume"`
	Off        int64     `json:"offset"`
	Len        int64     `json:"length"`
	Segment    uint32    `json:"segment"`
	State      string    `json:"state"`  // damaged, healed or gone
	Reason     string    `json:"reason"` // why it could not be healed
	Found      time.Time `json:"found"`
	Changed    time.Time `json:"changed"`
}

// storeAPI sends a request to the store API, which lies beside the block
// storage API at the zone's address.
func (s *Session) storeAPI(ctx context.Context, method, path string, in, out any) error {
	return s.storesAPI(ctx, method, "stores"+path, in, out)
}

// storesAPI is storeAPI for what is about no single store.
func (s *Session) storesAPI(ctx context.Context, method, path string, in, out any) error {
	base, err := s.URL(blockStorage)
	if err != nil {
		return err
	}
	root, _, found := strings.Cut(base, "/v2/")
	if !found {
		return fmt.Errorf("the block storage endpoint %s has no /v2/ in it", base)
	}
	_, _, err = exchange{http: s.http, method: method, url: root + "/api/store/v1/" + path, in: in, out: out,
		header: http.Header{"X-Auth-Token": {s.token()}}}.do(ctx)
	return err
}

// Stores lists the zone's embedded stores.
func (s *Session) Stores(ctx context.Context) ([]Store, error) {
	var out struct {
		Stores []Store `json:"stores"`
	}
	err := s.storeAPI(ctx, http.MethodGet, "", nil, &out)
	return out.Stores, err
}

// StoreDamages lists what is damaged in a store, or with all also what was.
func (s *Session) StoreDamages(ctx context.Context, store string, all bool) ([]StoreDamage, error) {
	var out struct {
		Damages []StoreDamage `json:"damages"`
	}
	path := "/" + url.PathEscape(store) + "/damages"
	if all {
		path += "?state=all"
	}
	err := s.storeAPI(ctx, http.MethodGet, path, nil, &out)
	return out.Damages, err
}

// BeginStoreRun begins a check or a scrub, at mib MiB a second at most (0: as
// fast as it goes).
func (s *Session) BeginStoreRun(ctx context.Context, store, kind string, mib int64) (StoreRun, error) {
	return s.storeRun(ctx, http.MethodPost, "/"+url.PathEscape(store)+"/runs", map[string]any{"kind": kind, "mib_s": mib})
}

// StoreRun returns a run.
func (s *Session) StoreRun(ctx context.Context, store string, id int64) (StoreRun, error) {
	return s.storeRun(ctx, http.MethodGet, fmt.Sprintf("/%s/runs/%d", url.PathEscape(store), id), nil)
}

// CancelStoreRun ends a run.
func (s *Session) CancelStoreRun(ctx context.Context, store string, id int64) (StoreRun, error) {
	return s.storeRun(ctx, http.MethodDelete, fmt.Sprintf("/%s/runs/%d", url.PathEscape(store), id), nil)
}

func (s *Session) storeRun(ctx context.Context, method, path string, in any) (StoreRun, error) {
	var out struct {
		Run StoreRun `json:"run"`
	}
	err := s.storeAPI(ctx, method, path, in, &out)
	return out.Run, err
}

// WaitStoreRun waits until a run has ended, telling how it stands.
func (s *Session) WaitStoreRun(ctx context.Context, r StoreRun, see func(StoreRun)) (StoreRun, error) {
	err := Poll(ctx, 100*time.Millisecond, func() (bool, error) {
		var err error
		if r.State == "running" {
			r, err = s.StoreRun(ctx, r.Store, r.ID)
		}
		if err == nil && see != nil {
			see(r)
		}
		return err == nil && r.State != "running", err
	})
	return r, err
}
