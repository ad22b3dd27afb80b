-- Volumes that a recovery was to make and that it gave up for good: nobody may
-- ever open them, so that other zones need not wait for them.
CREATE TABLE failed_recoveries (
    volume_id TEXT NOT NULL PRIMARY KEY REFERENCES volumes (id) ON DELETE CASCADE
);
