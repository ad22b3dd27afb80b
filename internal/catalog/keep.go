package catalog

import (
	"encoding/json"

	"kvol/internal/block"
)

const noKeep = "Pin or hold %s could not be found."

// holdClock is the name of the setting that has the zone's hold clock.
const holdClock = "dr.hold_clock"

// KeepHolder is the name of a keep's pin.
func KeepHolder(id string) string { return "keep/" + id }

// InsertKeep writes a new keep and pins its point; CreatedAt becomes Now. A point
// that is not there is NotFound.
func (tx *Tx) InsertKeep(k *block.Keep) error {
	p, _, err := tx.Point(k.Replica, k.Point)
	if err != nil {
		return err
	}
	k.At, k.CreatedAt = p.At, tx.Now
	if err := tx.Pin(k.Replica, k.Point, KeepHolder(k.ID)); err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO point_keeps (id, replica_id, point_id, project_id, ends, until_at, keep)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`, k.ID, string(k.Replica), string(k.Point), string(k.Project), endsOf(*k),
		micros(k.Until), jsonText(*k))
	return err
}

func endsOf(k block.Keep) any {
	if k.Kind == block.KeepPin {
		return nil
	}
	return k.Ends
}

// UpdateKeep writes what may change of a keep: its kind, its end and its name.
func (tx *Tx) UpdateKeep(k block.Keep) error {
	res, err := tx.exec(`UPDATE point_keeps SET ends = $2, until_at = $3, keep = $4 WHERE id = $1`, k.ID, endsOf(k),
		micros(k.Until), jsonText(k))
	return changed(res, err, noKeep, k.ID)
}

// DeleteKeep removes a keep and takes its pin off; the point thins out then as
// others do.
func (tx *Tx) DeleteKeep(k block.Keep) error {
	if _, err := tx.Unpin(k.Replica, k.Point, KeepHolder(k.ID)); err != nil {
		return err
	}
	res, err := tx.exec(`DELETE FROM point_keeps WHERE id = $1`, k.ID)
	return changed(res, err, noKeep, k.ID)
}

// Keep returns a keep by its id.
func (tx *Tx) Keep(id string) (block.Keep, error) {
	k, err := scanKeep(tx.queryRow(`SELECT keep FROM point_keeps WHERE id = $1`, id))
	return k, notFound(err, noKeep, id)
}

// KeepsOf lists the keeps of a replica's points, in no order.
func (tx *Tx) KeepsOf(replica block.VolumeID) ([]block.Keep, error) {
	return collect(tx, scanKeep, `SELECT keep FROM point_keeps WHERE replica_id = $1 ORDER BY id`, string(replica))
}

// Keeps lists keeps, at most limit: of a project, or all for "".
func (tx *Tx) Keeps(project block.ProjectID, limit int) ([]block.Keep, error) {
	return collect(tx, scanKeep, `SELECT keep FROM point_keeps
		WHERE $1 = '' OR project_id = $1 ORDER BY id LIMIT $2`,
		string(project), limit)
}

// CountKeeps counts the keeps of a replica that somebody asked for, and those of
// a project.
func (tx *Tx) CountKeeps(replica block.VolumeID, project block.ProjectID) (ofReplica, ofProject int, err error) {
	err = tx.queryRow(`SELECT (SELECT COUNT(*) FROM point_keeps WHERE replica_id = $1 AND keep ->> '$.user_id' <> ''),
		(SELECT COUNT(*) FROM point_keeps WHERE project_id = $2)`, string(replica), string(project)).
		Scan(&ofReplica, &ofProject)
	return ofReplica, ofProject, err
}

// EndedHolds lists holds that are over by the hold clock and by the calendar, at
// most limit.
func (tx *Tx) EndedHolds(c block.HoldClock, limit int) ([]block.Keep, error) {
	return collect(tx, scanKeep, `SELECT keep FROM point_keeps WHERE ends <= $1 AND until_at <= $2
		ORDER BY ends, id LIMIT $3`, c.Reading, tx.Now.UnixMicro(), limit)
}

func scanKeep(row scanner) (k block.Keep, err error) {
	err = row.Scan(asJSON(&k))
	return k, err
}

// HoldClock returns what the zone's hold clock shows.
func (tx *Tx) HoldClock() (c block.HoldClock, err error) {
	text, ok, err := tx.Setting(holdClock)
	if err == nil && ok {
		err = json.Unmarshal(text, &c)
	}
	return c, err
}

// SetHoldClock moves the zone's hold clock forward; never back.
func (tx *Tx) SetHoldClock(c block.HoldClock) error {
	old, err := tx.HoldClock()
	if err != nil || c.Reading <= old.Reading {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return tx.SetSetting(holdClock, text)
}
