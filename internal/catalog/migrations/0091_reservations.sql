-- What initiators reserved at a volume and want to find again after a restart.

CREATE TABLE reservations (
    volume_id  TEXT PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE,
    state      TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
