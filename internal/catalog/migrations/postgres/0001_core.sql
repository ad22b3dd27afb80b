-- SQLite's way to look into a document that is kept as a text, for the statements
-- that both databases read: the path begins with "$.".
CREATE FUNCTION json_text(document TEXT, path TEXT) RETURNS TEXT LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT document::jsonb #>> string_to_array(substr(path, 3), '.') $$;
CREATE OPERATOR ->> (LEFTARG = TEXT, RIGHTARG = TEXT, FUNCTION = json_text);

-- What every zone has: volumes and what hangs on them, jobs, quotas.

CREATE TABLE volume_types (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    public      BOOLEAN NOT NULL,
    extra_specs TEXT NOT NULL,
    qos_id      TEXT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT
);

CREATE TABLE volumes (
    id                 TEXT PRIMARY KEY,
    project_id         TEXT NOT NULL,
    user_id            TEXT NOT NULL,
    name               TEXT,
    description        TEXT,
    size               BIGINT NOT NULL,
    status             TEXT NOT NULL,
    type_id            TEXT REFERENCES volume_types (id),
    backend            TEXT NOT NULL,
    availability_zone  TEXT NOT NULL,
    bootable           BOOLEAN NOT NULL,
    multiattach        BOOLEAN NOT NULL,
    encrypted          BOOLEAN NOT NULL,
    readonly           BOOLEAN NOT NULL,
    snapshot_id        TEXT,
    source_volume_id   TEXT,
    group_id           TEXT,
    metadata           TEXT NOT NULL,
    image_metadata     TEXT NOT NULL,
    replication_status TEXT NOT NULL,
    epoch              BIGINT NOT NULL,
    recovered_to       TEXT,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT
);
-- The default list of a project, of all projects, and a quota's count.
CREATE INDEX volumes_by_project ON volumes (project_id, created_at, id);
CREATE INDEX volumes_by_age ON volumes (created_at, id);
CREATE INDEX volumes_by_usage ON volumes (project_id, type_id, size);
CREATE INDEX volumes_by_type ON volumes (type_id);
CREATE INDEX volumes_by_status ON volumes (status);

CREATE TABLE snapshots (
    id          TEXT PRIMARY KEY,
    volume_id   TEXT NOT NULL,
    project_id  TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    name        TEXT,
    description TEXT,
    size        BIGINT NOT NULL,
    status      TEXT NOT NULL,
    progress    TEXT NOT NULL,
    metadata    TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT
);
CREATE INDEX snapshots_by_project ON snapshots (project_id, created_at, id);
CREATE INDEX snapshots_by_age ON snapshots (created_at, id);
CREATE INDEX snapshots_by_volume ON snapshots (volume_id, created_at, id);

CREATE TABLE attachments (
    id          TEXT PRIMARY KEY,
    volume_id   TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    server_id   TEXT,
    host_name   TEXT,
    device      TEXT,
    mode        TEXT NOT NULL,
    status      TEXT NOT NULL,
    attached_at BIGINT,
    detached_at BIGINT
);
CREATE INDEX attachments_by_volume ON attachments (volume_id, attached_at, id);

CREATE TABLE connections (
    id         TEXT PRIMARY KEY,
    volume_id  TEXT NOT NULL REFERENCES volumes (id) ON DELETE CASCADE,
    connector  TEXT NOT NULL,
    protocol   TEXT NOT NULL,
    readonly   BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX connections_by_volume ON connections (volume_id, created_at, id);

CREATE TABLE quotas (
    project_id TEXT NOT NULL,
    resource   TEXT NOT NULL,
    max        BIGINT NOT NULL,
    PRIMARY KEY (project_id, resource)
);

-- due_at is when the job may be claimed: run_at of one that is ready, the end
-- of the lease of one that runs.
CREATE TABLE jobs (
    id         BIGINT PRIMARY KEY,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    args       TEXT,
    state      TEXT NOT NULL,
    step       TEXT NOT NULL,
    done       BIGINT NOT NULL,
    total      BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    error      TEXT NOT NULL,
    evidence   TEXT,
    owner      TEXT NOT NULL,
    due_at     BIGINT NOT NULL,
    run_at     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at   BIGINT
);
CREATE INDEX jobs_open ON jobs (due_at, id) WHERE ended_at IS NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX jobs_by_subject ON jobs (subject, id);

CREATE TABLE sequences (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE settings (
    name       TEXT PRIMARY KEY,
    value      TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Who still needs a snapshot's bytes, and which snapshots are to go as soon as
-- nobody does.
CREATE TABLE pins (
    volume_id TEXT NOT NULL,
    name      TEXT NOT NULL,
    holder    TEXT NOT NULL,
    PRIMARY KEY (volume_id, name, holder)
);
CREATE TABLE released_snapshots (
    volume_id TEXT NOT NULL,
    name      TEXT NOT NULL,
    PRIMARY KEY (volume_id, name)
);
