-- The backends of jobs, as on SQLite.
ALTER TABLE jobs ADD COLUMN backend TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN beside TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN stays BOOLEAN NOT NULL DEFAULT FALSE;

UPDATE jobs SET backend = COALESCE(
    (SELECT v.backend FROM volumes v WHERE v.id = substr(jobs.subject, 1, 36)),
    (SELECT v.backend FROM snapshots s JOIN volumes v ON v.id = s.volume_id WHERE s.id = jobs.subject),
    (SELECT v.backend FROM backups b JOIN volumes v ON v.id = b.volume_id WHERE b.id = jobs.subject),
    (SELECT MIN(v.backend) FROM volumes v WHERE v.group_id = jobs.subject),
    (SELECT MIN(v.backend) FROM snapshots s JOIN volumes v ON v.id = s.volume_id
        WHERE s.group_snapshot_id = jobs.subject), '')
WHERE ended_at IS NULL;

CREATE INDEX jobs_open_of_backend ON jobs (backend, beside, due_at, id) WHERE ended_at IS NULL;

CREATE FUNCTION jobs_of_moved_volume() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    UPDATE jobs SET backend = NEW.backend
    WHERE ended_at IS NULL AND NOT stays AND backend = OLD.backend AND id IN (
        SELECT j.id FROM jobs j WHERE j.subject IN (NEW.id, NEW.id || '/hosts')
        UNION ALL SELECT j.id FROM snapshots s JOIN jobs j ON j.subject = s.id WHERE s.volume_id = NEW.id
        UNION ALL SELECT j.id FROM backups b JOIN jobs j ON j.subject = b.id WHERE b.volume_id = NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_of_moved_volume AFTER UPDATE OF backend ON volumes
    FOR EACH ROW WHEN (OLD.backend <> NEW.backend) EXECUTE FUNCTION jobs_of_moved_volume();
