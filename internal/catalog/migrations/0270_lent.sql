-- Volumes that were lent to hosts, which use them by the store's own protocol:
-- how many of those hosts' connections were removed, and up to which of them the
-- hosts were cut off.

CREATE TABLE lent (
    volume_id TEXT PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
    wanted    BIGINT NOT NULL DEFAULT 0,
    done      BIGINT NOT NULL DEFAULT 0
);
