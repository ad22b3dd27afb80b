-- What tenants are told of asynchronous operations that failed, and which
-- request a job belongs to.

CREATE TABLE messages (
    id            TEXT PRIMARY KEY,
    project_id    TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    resource_type TEXT NOT NULL,
    resource_uuid TEXT NOT NULL,
    action_id     TEXT NOT NULL,
    detail_id     TEXT NOT NULL,
    event_id      TEXT NOT NULL,
    message_level TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL
);
CREATE INDEX messages_by_project ON messages (project_id, created_at, id);
CREATE INDEX messages_by_age ON messages (created_at, id);
CREATE INDEX messages_expired ON messages (expires_at);

ALTER TABLE jobs ADD COLUMN request_id TEXT NOT NULL DEFAULT '';
