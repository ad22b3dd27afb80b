-- Keys of volumes that an external key manager has as well: how it names them,
-- '' while that is under way. What is to be removed there is kept apart, since
-- the key's row is gone by then.

ALTER TABLE secrets ADD COLUMN placed_as TEXT;
CREATE INDEX secrets_unplaced ON secrets (id) WHERE placed_as IS NULL OR placed_as = '';

CREATE TABLE secret_removals (
    id         TEXT NOT NULL,
    project_id TEXT NOT NULL,
    placed_as  TEXT NOT NULL,
    PRIMARY KEY (id, project_id)
);
