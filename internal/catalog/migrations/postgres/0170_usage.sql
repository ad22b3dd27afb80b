-- What each project holds of each type, as on SQLite: kept by the database
-- itself, by triggers that call the functions below.
CREATE TABLE usage (
    project_id     TEXT NOT NULL,
    type_id        TEXT NOT NULL,
    volumes        BIGINT NOT NULL DEFAULT 0,
    volume_size    BIGINT NOT NULL DEFAULT 0, -- GiB
    snapshots      BIGINT NOT NULL DEFAULT 0,
    snapshot_size  BIGINT NOT NULL DEFAULT 0, -- GiB
    PRIMARY KEY (project_id, type_id)
);

INSERT INTO usage (project_id, type_id, volumes, volume_size)
    SELECT project_id, COALESCE(type_id, ''), COUNT(*), SUM(size) FROM volumes GROUP BY 1, 2;
INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
    SELECT snapshots.project_id, COALESCE(volumes.type_id, ''), COUNT(*), SUM(snapshots.size) FROM snapshots
        LEFT JOIN volumes ON volumes.id = snapshots.volume_id GROUP BY 1, 2
    ON CONFLICT (project_id, type_id) DO UPDATE
        SET snapshots = excluded.snapshots, snapshot_size = excluded.snapshot_size;

-- usage_add adds to a project's account of a type; '' for none.
CREATE FUNCTION usage_add(project TEXT, type TEXT, n BIGINT, gib BIGINT, snaps BIGINT, snap_gib BIGINT)
RETURNS VOID LANGUAGE SQL AS $$
    INSERT INTO usage (project_id, type_id, volumes, volume_size, snapshots, snapshot_size)
        VALUES (project, COALESCE(type, ''), n, gib, snaps, snap_gib)
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            volumes = usage.volumes + n, volume_size = usage.volume_size + gib,
            snapshots = usage.snapshots + snaps, snapshot_size = usage.snapshot_size + snap_gib
$$;

-- usage_move counts the snapshots of a volume with another type.
CREATE FUNCTION usage_move(volume TEXT, was TEXT, becomes TEXT) RETURNS VOID LANGUAGE SQL AS $$
    SELECT usage_add(project_id, was, 0, 0, -COUNT(*), -SUM(size)::BIGINT),
            usage_add(project_id, becomes, 0, 0, COUNT(*), SUM(size)::BIGINT)
        FROM snapshots WHERE volume_id = volume GROUP BY project_id
$$;

CREATE FUNCTION usage_of_volume() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM usage_add(OLD.project_id, OLD.type_id, -1, -OLD.size, 0, 0);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM usage_add(NEW.project_id, NEW.type_id, 1, NEW.size, 0, 0);
    END IF;
    IF TG_OP = 'INSERT' AND NEW.type_id IS NOT NULL THEN
        PERFORM usage_move(NEW.id, NULL, NEW.type_id);
    ELSIF TG_OP = 'DELETE' AND OLD.type_id IS NOT NULL THEN
        PERFORM usage_move(OLD.id, OLD.type_id, NULL);
    ELSIF TG_OP = 'UPDATE' AND OLD.type_id IS DISTINCT FROM NEW.type_id THEN
        PERFORM usage_move(NEW.id, OLD.type_id, NEW.type_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_of_volume AFTER INSERT OR DELETE OR UPDATE OF project_id, type_id, size ON volumes
    FOR EACH ROW EXECUTE FUNCTION usage_of_volume();

CREATE FUNCTION usage_of_snapshot() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM usage_add(OLD.project_id, (SELECT type_id FROM volumes WHERE id = OLD.volume_id), 0, 0, -1, -OLD.size);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM usage_add(NEW.project_id, (SELECT type_id FROM volumes WHERE id = NEW.volume_id), 0, 0, 1, NEW.size);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER usage_of_snapshot AFTER INSERT OR DELETE OR UPDATE OF project_id, volume_id, size ON snapshots
    FOR EACH ROW EXECUTE FUNCTION usage_of_snapshot();

-- What counted before.
DROP INDEX volumes_by_usage;
