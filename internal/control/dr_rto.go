package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/recovery"
)

// RTOForecast says how long a recovery would take, by what was measured.
type RTOForecast struct {
	Way      string
	Expected time.Duration // the median
	Worst    time.Duration // nine of ten took no longer
	Measured int           // how many recoveries it rests on; 0: nothing was measured
	Rests    string        // on what, in a sentence
}

const (
	rtoBatch  = 200
	rtoRecent = 50 // of one way are looked at

	waySwitch = "switch" // the way of a planned failover
)

// RTOs lists how long recoveries took in this zone, the newest first, for
// administrators.
func (s *Service) RTOs(ctx context.Context, c block.Caller, limit int) (all []block.RTO, err error) {
	if !c.Admin() {
		return nil, errDRAdmin()
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		all, err = tx.RTOs(limit)
		return err
	})
	return all, err
}

// keepRTOs writes down how long the recoveries took that ended since it was
// last done. What a killed process left is found the next time.
func (s *Service) keepRTOs(ctx context.Context) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		jobs, err := tx.UnkeptRTOs(rtoBatch)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			r := block.RTO{Kind: string(j.Request.Kind), Rowkey: j.Rowkey, At: j.End, Bytes: j.BytesTotal,
				Took: j.End.Sub(j.Start)}
			if r.Way, err = wayOf(tx, j.NewVolume); err != nil {
				return err
			}
			if err := tx.InsertRTO(r); err != nil {
				return err
			}
		}
		moves, err := tx.UnkeptFailovers(rtoBatch)
		if err != nil {
			return err
		}
		for _, f := range moves {
			r := block.RTO{Kind: block.RTOFailover, Subject: f.ID, At: f.Ended, Way: waySwitch, Took: f.Ended.Sub(f.Started)}
			if f.Point != nil {
				r.Bytes = f.Point.Size
			}
			if err := tx.InsertRTO(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// wayOf is how a volume was filled, as the evidence of its job says.
func wayOf(tx *catalog.Tx, volume block.VolumeID) (string, error) {
	jobs, err := tx.JobsOf(string(volume))
	for _, j := range jobs {
		var e recovery.Evidence
		if j.Kind == recovery.JobKind && json.Unmarshal(j.Evidence, &e) == nil && e.Way != "" {
			return e.Way, nil
		}
	}
	return "", err
}

// wayFrom is how a replica on a backend would become a volume: by a clone where
// another backend of this zone lies on its store, else by a copy.
func (s *Service) wayFrom(backend string) string {
	for _, b := range s.backends.Backends() {
		if b.Name != backend && s.backends.Shared(backend, b.Name) {
			return "clone"
		}
	}
	return "copy"
}

// predictRTO looks at what was measured, the newest first. A clone takes as long
// whatever its size; a copy as long as its bytes do.
func predictRTO(all []block.RTO, way string, bytes int64) RTOForecast {
	f := RTOForecast{Way: way}
	var took []time.Duration
	var newest time.Time
	for _, r := range all {
		if r.Way != way || len(took) == rtoRecent {
			continue
		}
		if newest.IsZero() {
			newest = r.At
		}
		t := r.Took
		if way == "copy" && r.Bytes > 0 {
			t = time.Duration(float64(t) / float64(r.Bytes) * float64(bytes))
		}
		took = append(took, t)
	}
	if f.Measured = len(took); f.Measured == 0 {
		f.Rests = fmt.Sprintf("No recovery by %s was measured in this zone yet; a drill would measure one.", way)
		return f
	}
	slices.Sort(took)
	f.Expected, f.Worst = took[len(took)/2], took[(len(took)*9)/10]
	f.Rests = fmt.Sprintf("The last %d by %s in this zone, the newest at %s", len(took), way,
		newest.UTC().Format(time.RFC3339))
	if way == "copy" {
		f.Rests += ", in proportion to their bytes"
	}
	f.Rests += "."
	return f
}
