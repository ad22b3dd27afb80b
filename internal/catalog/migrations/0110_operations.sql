-- Operations of disaster recovery and their steps; operation and step are the
-- whole rows as JSON, the columns beside them are what rows are found by.
CREATE TABLE dr_operations (
    id              TEXT    NOT NULL PRIMARY KEY,
    kind            TEXT    NOT NULL,
    project_id      TEXT    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    operation       TEXT    NOT NULL
) WITHOUT ROWID;

CREATE INDEX dr_operations_newest ON dr_operations (created_at DESC, id);
CREATE INDEX dr_operations_of ON dr_operations (project_id, created_at DESC, id);
CREATE UNIQUE INDEX dr_operations_once ON dr_operations (project_id, idempotency_key) WHERE idempotency_key <> '';

CREATE TABLE dr_operation_steps (
    operation_id TEXT    NOT NULL,
    seq          INTEGER NOT NULL,
    stage        INTEGER NOT NULL,
    status       TEXT    NOT NULL,
    step         TEXT    NOT NULL,
    PRIMARY KEY (operation_id, seq)
) WITHOUT ROWID;

CREATE INDEX dr_operation_steps_by_status ON dr_operation_steps (operation_id, status, stage, seq);

-- Recovery plans; plan is the whole row as JSON. Names are of their own in a
-- project.
CREATE TABLE dr_plans (
    id         TEXT    NOT NULL PRIMARY KEY,
    project_id TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    plan       TEXT    NOT NULL,
    UNIQUE (project_id, name)
) WITHOUT ROWID;
