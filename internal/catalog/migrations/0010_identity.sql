-- Who asks: users, projects, roles and the tokens that were given out. Passwords are argon2id hashes in PHC form,
-- tokens are hex SHA-256 hashes: nothing here lets anybody in. Times are microseconds since 1970, UTC.
CREATE TABLE projects (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    configured  BOOLEAN NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    description   TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    enabled       BOOLEAN NOT NULL,
    configured    BOOLEAN NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE roles (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE role_grants (
    user_id    TEXT NOT NULL,
    project_id TEXT NOT NULL,
    role_id    TEXT NOT NULL,
    PRIMARY KEY (user_id, project_id, role_id)
);

CREATE TABLE tokens (
    hash       TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL,
    project_id TEXT NOT NULL, -- '' if unscoped
    methods    TEXT NOT NULL, -- JSON array
    audit_ids  TEXT NOT NULL, -- JSON array
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX tokens_by_user ON tokens (user_id, issued_at);
CREATE INDEX tokens_by_expiry ON tokens (expires_at);

CREATE TABLE kvol_users (
    name          TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL
);

CREATE TABLE kvol_tokens (
    hash       TEXT PRIMARY KEY,
    user_name  TEXT NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX kvol_tokens_by_user ON kvol_tokens (user_name, issued_at);
CREATE INDEX kvol_tokens_by_expiry ON kvol_tokens (expires_at);
