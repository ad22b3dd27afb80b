-- Pins and holds of recovery points: keep is the whole row as JSON. ends is the
-- reading of the zone's hold clock at which a hold is over, at the earliest, and
-- until_at when it is by the calendar; both NULL for a pin.
CREATE TABLE point_keeps (
    id         TEXT    NOT NULL PRIMARY KEY,
    replica_id TEXT    NOT NULL,
    point_id   TEXT    NOT NULL,
    project_id TEXT    NOT NULL,
    ends       INTEGER,
    until_at   INTEGER,
    keep       TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX point_keeps_of ON point_keeps (replica_id, point_id);
CREATE INDEX point_keeps_by_end ON point_keeps (ends);
CREATE INDEX point_keeps_of_project ON point_keeps (project_id);
