package control

import (
	"context"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/drill"
)

// DrillFigures is what is measured of the drills of a zone.
type DrillFigures struct {
	Running   int
	Clones    int // in stores
	Schedules []ScheduleFigures
}

// ScheduleFigures are those of an enabled schedule.
type ScheduleFigures struct {
	ID      string
	Project block.ProjectID
	Every   time.Duration // between the next two times that it is due
	Since   time.Time     // when it was made
	Passed  time.Time     // when its last drill ended that passed; zero for none
	Failed  bool          // its last drill that was not canceled did not pass
}

// DrillFigures tells how the drills of this zone do.
func (s *Service) DrillFigures(ctx context.Context) (out DrillFigures, err error) {
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		clones, err := tx.DrillClones("")
		if err != nil {
			return err
		}
		out = DrillFigures{Clones: len(clones)}
		if out.Running, err = tx.RunningDrills(); err != nil {
			return err
		}
		marks, err := tx.DrillMarks()
		if err != nil {
			return err
		}
		known := map[string]catalog.DrillMark{}
		for _, m := range marks {
			known[m.Schedule] = m
		}
		all, err := tx.DrillSchedules("", MaxOperations)
		for _, one := range all {
			if !one.Enabled {
				continue
			}
			w, err := drill.ParseWhen(one.When)
			if err != nil {
				return err
			}
			m := known[one.ID]
			out.Schedules = append(out.Schedules, ScheduleFigures{ID: one.ID, Project: one.Project, Since: one.CreatedAt,
				Every: w.Next(one.NextAt).Sub(one.NextAt), Passed: m.Passed, Failed: m.Verdict == block.DrillFailed})
		}
		return err
	})
	return out, err
}
