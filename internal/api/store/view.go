package store

import (
	"time"

	"kvol/internal/block"
	"kvol/internal/upkeep"
)

type storeBody struct {
	Name   string        `json:"name"`
	Status upkeep.Status `json:"status"`
	Run    *runBody      `json:"run"` // that is under way, or the last one since the zone started
}

func storeView(s upkeep.Store) storeBody {
	b := storeBody{Name: s.Name, Status: s.Status}
	if s.Run != nil {
		r := runView(*s.Run)
		b.Run = &r
	}
	return b
}

// processBody is a process of the zone.
type processBody struct {
	ID      string    `json:"id"` // of this run
	Name    string    `json:"name"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	URL     string    `json:"url"`
	Version string    `json:"version"`
	State   string    `json:"state"`  // serving, stopping, or dead: it does not show itself
	Duties  []string  `json:"duties"` // what it does for all
	Started time.Time `json:"started"`
	Seen    time.Time `json:"seen"` // when it last showed itself
}

func processView(p upkeep.Process) processBody {
	b := processBody{p.ID, p.Name, p.Host, p.PID, p.URL, p.Version, p.State, p.Duties, p.Started.UTC(), p.Seen.UTC()}
	if !p.Live {
		b.State = "dead"
	}
	return b
}

type runBody struct {
	ID       int64            `json:"id"`
	Store    string           `json:"store"`
	Kind     upkeep.Kind      `json:"kind"`
	State    upkeep.State     `json:"state"`
	MiB      int64            `json:"mib_s"`
	By       string           `json:"by"`
	Done     int64            `json:"bytes_done"`
	Total    int64            `json:"bytes_total"`
	Found    int              `json:"found"`
	Began    time.Time        `json:"began"`
	Ended    *time.Time       `json:"ended"`
	Error    string           `json:"error,omitempty"`
	Examined *upkeep.Examined `json:"examined,omitempty"` // of a check
}

func runView(r upkeep.Run) runBody {
	return runBody{r.ID, r.Store, r.Kind, r.State, r.Rate >> 20, r.By, r.Done, r.Total, r.Found, r.Began.UTC(),
		when(r.Ended), r.Error, r.Examined}
}

type damageBody struct {
	What       string         `json:"what"`
	Volume     block.VolumeID `json:"volume_id"`
	VolumeName string         `json:"volume_name"`
	Project    string         `json:"project_id"`
	ReplicaOf  block.Zone     `json:"replica_of_zone,omitempty"`
	Source     block.VolumeID `json:"replica_of_volume,omitempty"`
	Off        int64          `json:"offset"`
	Len        int64          `json:"length"`
	Segment    uint32         `json:"segment"`
	SegmentAt  int64          `json:"segment_offset"`
	State      string         `json:"state"`
	Reason     string         `json:"reason"`
	Found      time.Time      `json:"found"`
	Changed    time.Time      `json:"changed"`
}

func damageView(d upkeep.Damage) damageBody {
	return damageBody{d.What, d.Volume, d.VolumeName, d.Project, d.ReplicaOf, d.Source, d.Off, d.Len, d.Segment,
		d.SegmentAt, d.State, d.Reason, d.Found.UTC(), d.Changed.UTC()}
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
