-- What drills made in stores, until it is deleted there.
CREATE TABLE drill_clones (
    volume_id    TEXT    NOT NULL PRIMARY KEY,
    operation_id TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    backend      TEXT    NOT NULL,
    replica_id   TEXT    NOT NULL,
    point_id     TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX drill_clones_of ON drill_clones (operation_id, seq);
CREATE INDEX drill_clones_from ON drill_clones (replica_id);

-- Reports of drills that ended, and schedules; report and schedule are whole as
-- JSON.
CREATE TABLE drill_reports (
    operation_id TEXT    NOT NULL PRIMARY KEY,
    project_id   TEXT    NOT NULL,
    schedule_id  TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    verdict      TEXT    NOT NULL,
    report       TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX drill_reports_of ON drill_reports (project_id, at);
CREATE INDEX drill_reports_by ON drill_reports (schedule_id, verdict, at);

CREATE TABLE drill_schedules (
    id         TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    next_at    INTEGER,
    schedule   TEXT    NOT NULL,
    UNIQUE (project_id, name)
) WITHOUT ROWID;

CREATE INDEX drill_schedules_due ON drill_schedules (next_at);
