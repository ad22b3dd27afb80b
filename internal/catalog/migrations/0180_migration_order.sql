-- Volumes can be sorted by how their moves stand.
ALTER TABLE volumes ADD COLUMN migration_status_sorted TEXT AS (COALESCE(migration_status, '')) VIRTUAL;
CREATE INDEX volumes_sorted_by_migration ON volumes (migration_status_sorted, created_at, id);
