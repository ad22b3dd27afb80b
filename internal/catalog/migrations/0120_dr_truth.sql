-- How far replicas are behind over time, from whichever end: a meter as JSON.
-- role is source or target.
CREATE TABLE dr_lags (
    role        TEXT    NOT NULL,
    source_zone TEXT    NOT NULL,
    volume_id   TEXT    NOT NULL,
    protection  INTEGER NOT NULL,
    meter       TEXT    NOT NULL,
    kept_at     INTEGER NOT NULL,
    PRIMARY KEY (role, source_zone, volume_id, protection)
);

-- What changed in the health of pairs and volumes; the newest only.
CREATE TABLE dr_events (
    id         INTEGER NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    project_id TEXT    NOT NULL,
    event      TEXT    NOT NULL
);

-- How long recoveries took.
CREATE TABLE dr_rtos (
    kind   TEXT    NOT NULL,
    rowkey INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    rto    TEXT    NOT NULL,
    PRIMARY KEY (kind, rowkey)
);

CREATE INDEX dr_rtos_at ON dr_rtos (at);
