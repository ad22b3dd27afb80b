-- Jobs of the kvol API, by kind and rowkey. job is the whole row as JSON; the
-- columns beside it are what rows are selected and ordered by.
CREATE TABLE dr_jobs (
    kind            TEXT    NOT NULL,
    rowkey          INTEGER NOT NULL,
    started_at      INTEGER NOT NULL,
    idempotency_key TEXT    NOT NULL,
    job             TEXT    NOT NULL,
    PRIMARY KEY (kind, rowkey)
) WITHOUT ROWID;

CREATE INDEX dr_jobs_newest ON dr_jobs (kind, started_at DESC, rowkey DESC);
CREATE UNIQUE INDEX dr_jobs_once ON dr_jobs (kind, idempotency_key) WHERE idempotency_key <> '';

-- What other zones last told about themselves.
CREATE TABLE peer_documents (
    zone        TEXT    NOT NULL PRIMARY KEY,
    received_at INTEGER NOT NULL,
    document    TEXT    NOT NULL
);

-- Calls of the kvol API.
CREATE TABLE audit (
    id     INTEGER NOT NULL PRIMARY KEY,
    at     INTEGER NOT NULL,
    caller TEXT    NOT NULL,
    remote TEXT    NOT NULL,
    call   TEXT    NOT NULL,
    params TEXT    NOT NULL,
    code   INTEGER NOT NULL,
    rowkey INTEGER NOT NULL
);

CREATE INDEX audit_at ON audit (at);
