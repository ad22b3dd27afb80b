package catalog

import (
	"time"

	"kvol/internal/block"
)

// InsertDrillClone notes a clone before it is made.
func (tx *Tx) InsertDrillClone(c block.DrillClone) error {
	_, err := tx.exec(`INSERT INTO drill_clones (volume_id, operation_id, seq, backend, replica_id, point_id)
		VALUES ($1, $2, $3, $4, $5, $6)`, string(c.ID), c.Operation, c.Seq, c.Backend, string(c.Replica), string(c.Point))
	return err
}

// DrillClones lists the clones of a drill by step, or all for "".
func (tx *Tx) DrillClones(operation string) ([]block.DrillClone, error) {
	return collect(tx, func(row scanner) (c block.DrillClone, err error) {
		err = row.Scan(&c.ID, &c.Operation, &c.Seq, &c.Backend, &c.Replica, &c.Point)
		return c, err
	}, `SELECT volume_id, operation_id, seq, backend, replica_id, point_id FROM drill_clones
		WHERE $1 = '' OR operation_id = $1 ORDER BY operation_id, seq`, operation)
}

// IsDrillClone reports whether what lies in a store under an id is a drill's.
func (tx *Tx) IsDrillClone(id block.VolumeID) (bool, error) {
	var n int64
	err := tx.queryRow(`SELECT COUNT(*) FROM drill_clones WHERE volume_id = $1`, string(id)).Scan(&n)
	return n > 0, err
}

// DrillsOf lists the drills that have a clone of a replica.
func (tx *Tx) DrillsOf(replica block.VolumeID) ([]string, error) {
	return collect(tx, scanText, `SELECT DISTINCT operation_id FROM drill_clones WHERE replica_id = $1
		ORDER BY operation_id`, string(replica))
}

func scanText(row scanner) (text string, err error) {
	err = row.Scan(&text)
	return text, err
}

// DeleteDrillClone forgets a clone that is gone from its store.
func (tx *Tx) DeleteDrillClone(id block.VolumeID) error {
	_, err := tx.exec(`DELETE FROM drill_clones WHERE volume_id = $1`, string(id))
	return err
}

// LeftDrills lists drills that have ended and have clones still.
func (tx *Tx) LeftDrills() ([]string, error) {
	return collect(tx, scanText, `SELECT DISTINCT c.operation_id FROM drill_clones c
		LEFT JOIN dr_operations o ON o.id = c.operation_id
		WHERE o.id IS NULL OR o.status IN ('succeeded', 'partly', 'failed', 'canceled') ORDER BY c.operation_id`)
}

// RunningDrills counts drills that have not ended.
func (tx *Tx) RunningDrills() (n int, err error) {
	err = tx.queryRow(`SELECT COUNT(*) FROM dr_operations WHERE kind = $1 AND status IN ('waiting', 'running')`,
		string(block.OperationDrill)).Scan(&n)
	return n, err
}

// InsertDrillReport keeps the report of a drill, and forgets the oldest drills
// of its project that ended, where there are more reports than keep. At becomes
// Now. A report that is there stays.
func (tx *Tx) InsertDrillReport(r block.DrillReport, keep int) error {
	_, err := tx.exec(`INSERT INTO drill_reports (operation_id, project_id, schedule_id, at, verdict, report)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (operation_id) DO NOTHING`, r.Operation, string(r.Project), r.Schedule,
		micros(tx.Now), r.Verdict, string(r.Report))
	if err != nil {
		return err
	}
	old, err := collect(tx, scanText, `SELECT operation_id FROM drill_reports WHERE project_id = $1
		ORDER BY at DESC, operation_id LIMIT 9223372036854775807 OFFSET $2`, string(r.Project), keep)
	for _, id := range old {
		if err := tx.forgetOperation(id); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM drill_reports WHERE operation_id = $1`, id); err != nil {
			return err
		}
	}
	return err
}

const drillReportColumns = `operation_id, project_id, schedule_id, at, verdict, report`

func scanDrillReport(row scanner) (r block.DrillReport, err error) {
	err = row.Scan(&r.Operation, &r.Project, &r.Schedule, asTime(&r.At), &r.Verdict, &r.Report)
	return r, err
}

// DrillReport returns the report of a drill; NotFound before its end, and where
// it is kept no longer.
func (tx *Tx) DrillReport(operation string) (block.DrillReport, error) {
	r, err := scanDrillReport(tx.queryRow(`SELECT `+drillReportColumns+` FROM drill_reports WHERE operation_id = $1`,
		operation))
	return r, notFound(err, "Drill %s has no report.", operation)
}

// DrillMark is what is known of a schedule's drills.
type DrillMark struct {
	Schedule string
	Passed   time.Time // when the last one ended that passed; zero for none
	Ended    time.Time // when the last one ended that was not canceled
	Verdict  string    // of it
}

// DrillMarks tells of the drills of each schedule, and of those on demand under
// "".
func (tx *Tx) DrillMarks() ([]DrillMark, error) {
	return collect(tx, func(row scanner) (m DrillMark, err error) {
		err = row.Scan(&m.Schedule, asTime(&m.Passed), asTime(&m.Ended), &m.Verdict)
		return m, err
	}, `SELECT schedule_id, MAX(CASE WHEN verdict = 'pass' THEN at END), MAX(at),
			(SELECT verdict FROM drill_reports l WHERE l.schedule_id = r.schedule_id AND l.verdict <> 'canceled'
				ORDER BY l.at DESC LIMIT 1)
		FROM drill_reports r WHERE verdict <> 'canceled' GROUP BY schedule_id ORDER BY schedule_id`)
}

const noDrillSchedule = "Drill schedule %s could not be found."

// InsertDrillSchedule writes a new schedule; its times become Now. A name that
// another one of the project has is a Conflict.
func (tx *Tx) InsertDrillSchedule(s *block.DrillSchedule) error {
	s.CreatedAt, s.UpdatedAt = tx.Now, tx.Now
	_, err := tx.exec(`INSERT INTO drill_schedules (id, project_id, name, next_at, schedule) VALUES ($1, $2, $3, $4, $5)`,
		s.ID, string(s.Project), s.Name, micros(s.NextAt), jsonText(*s))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "A drill schedule called %s exists.", s.Name)
	}
	return err
}

// UpdateDrillSchedule writes a schedule anew; UpdatedAt becomes Now.
func (tx *Tx) UpdateDrillSchedule(s *block.DrillSchedule) error {
	s.UpdatedAt = tx.Now
	res, err := tx.exec(`UPDATE drill_schedules SET name = $2, next_at = $3, schedule = $4 WHERE id = $1`, s.ID, s.Name,
		micros(s.NextAt), jsonText(*s))
	if tx.duplicate(err) {
		return block.Wrap(block.Conflict, err, "A drill schedule called %s exists.", s.Name)
	}
	return changed(res, err, noDrillSchedule, s.ID)
}

// DeleteDrillSchedule removes a schedule.
func (tx *Tx) DeleteDrillSchedule(id string) error {
	res, err := tx.exec(`DELETE FROM drill_schedules WHERE id = $1`, id)
	return changed(res, err, noDrillSchedule, id)
}

// DrillSchedule returns a schedule by its id, or by its name in a project.
func (tx *Tx) DrillSchedule(project block.ProjectID, idOrName string) (block.DrillSchedule, error) {
	s, err := scanDrillSchedule(tx.queryRow(`SELECT schedule FROM drill_schedules
		WHERE id = $1 OR project_id = $2 AND name = $1 ORDER BY id = $1 DESC LIMIT 1`, idOrName, string(project)))
	return s, notFound(err, noDrillSchedule, idOrName)
}

// DrillSchedules lists schedules by project and name, at most limit: of a
// project, or all for "".
func (tx *Tx) DrillSchedules(project block.ProjectID, limit int) ([]block.DrillSchedule, error) {
	return collect(tx, scanDrillSchedule, `SELECT schedule FROM drill_schedules WHERE $1 = '' OR project_id = $1
		ORDER BY project_id, name LIMIT $2`, string(project), limit)
}

// DueDrillSchedules lists the schedules whose time has come, at most limit.
func (tx *Tx) DueDrillSchedules(limit int) ([]block.DrillSchedule, error) {
	return collect(tx, scanDrillSchedule, `SELECT schedule FROM drill_schedules WHERE next_at <= $1
		ORDER BY next_at, id LIMIT $2`, micros(tx.Now), limit)
}

func scanDrillSchedule(row scanner) (s block.DrillSchedule, err error) {
	err = row.Scan(asJSON(&s))
	return s, err
}
