-- What other zones told of their audit logs: records that are in theirs, or
-- should be. broken has, of a zone, why its log is not believed any more.
CREATE TABLE audit_told (
    zone TEXT    NOT NULL,
    seq  INTEGER NOT NULL,
    hash TEXT    NOT NULL,
    at   INTEGER NOT NULL,
    PRIMARY KEY (zone, seq)
) WITHOUT ROWID;

CREATE TABLE audit_broken (
    zone TEXT    NOT NULL PRIMARY KEY,
    at   INTEGER NOT NULL,
    why  TEXT    NOT NULL
) WITHOUT ROWID;
