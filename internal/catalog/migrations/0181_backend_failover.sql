-- What an administrator's failover of a whole backend came to, and the zone that
-- its volumes went to; '' and NULL where none was asked for.
ALTER TABLE services ADD COLUMN replication TEXT NOT NULL DEFAULT '';
ALTER TABLE services ADD COLUMN active TEXT;

-- Volumes say of themselves how their replication stands.
UPDATE volumes SET replication_status = CASE
        WHEN EXISTS (SELECT 1 FROM links WHERE volume_id = volumes.id AND state = 'error') THEN 'error' ELSE 'enabled' END
    WHERE recovered_to IS NULL AND EXISTS (SELECT 1 FROM links WHERE volume_id = volumes.id);
