-- What each project holds of each type, kept by the database itself whatever
-- writes to the tables, so that a quota is checked by a few rows however many
-- volumes there are. '' stands for no type, and for the type of snapshots whose
-- volume is gone.
CREATE TABLE usage (
    project_id     TEXT NOT NULL,
    type_id        TEXT NOT NULL,
    volumes        BIGINT NOT NULL DEFAULT 0,
    volume_size    BIGINT NOT NULL DEFAULT 0, -- GiB
    snapshots      BIGINT NOT NULL DEFAULT 0,
    snapshot_size  BIGINT NOT NULL DEFAULT 0, -- GiB
    PRIMARY KEY (project_id, type_id)
) WITHOUT ROWID;

INSERT INTO usage (project_id, type_id, volumes, volume_size)
    SELECT project_id, COALESCE(type_id, ''), COUNT(*), SUM(size) FROM volumes WHERE TRUE GROUP BY 1, 2;
INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
    SELECT snapshots.project_id, COALESCE(volumes.type_id, ''), COUNT(*), SUM(snapshots.size) FROM snapshots
        LEFT JOIN volumes ON volumes.id = snapshots.volume_id WHERE TRUE GROUP BY 1, 2
    ON CONFLICT (project_id, type_id) DO UPDATE
        SET snapshots = excluded.snapshots, snapshot_size = excluded.snapshot_size;

CREATE TRIGGER usage_of_new_volume AFTER INSERT ON volumes BEGIN
    INSERT INTO usage (project_id, type_id, volumes, volume_size)
        VALUES (NEW.project_id, COALESCE(NEW.type_id, ''), 1, NEW.size)
        ON CONFLICT (project_id, type_id) DO UPDATE
            SET volumes = volumes + 1, volume_size = volume_size + excluded.volume_size;
END;

-- Snapshots of a volume that was not there are counted with its type now.
CREATE TRIGGER usage_of_known_volume AFTER INSERT ON volumes
WHEN NEW.type_id IS NOT NULL AND EXISTS (SELECT 1 FROM snapshots WHERE volume_id = NEW.id) BEGIN
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        SELECT project_id, '', -COUNT(*), -SUM(size) FROM snapshots WHERE volume_id = NEW.id GROUP BY project_id
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + excluded.snapshots, snapshot_size = snapshot_size + excluded.snapshot_size;
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        SELECT project_id, NEW.type_id, COUNT(*), SUM(size) FROM snapshots WHERE volume_id = NEW.id GROUP BY project_id
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + excluded.snapshots, snapshot_size = snapshot_size + excluded.snapshot_size;
END;

CREATE TRIGGER usage_of_changed_volume AFTER UPDATE OF project_id, type_id, size ON volumes
WHEN OLD.project_id <> NEW.project_id OR OLD.type_id IS NOT NEW.type_id OR OLD.size <> NEW.size BEGIN
    UPDATE usage SET volumes = volumes - 1, volume_size = volume_size - OLD.size
        WHERE project_id = OLD.project_id AND type_id = COALESCE(OLD.type_id, '');
    INSERT INTO usage (project_id, type_id, volumes, volume_size)
        VALUES (NEW.project_id, COALESCE(NEW.type_id, ''), 1, NEW.size)
        ON CONFLICT (project_id, type_id) DO UPDATE
            SET volumes = volumes + 1, volume_size = volume_size + excluded.volume_size;
END;

-- Snapshots count with the type that their volume has now.
CREATE TRIGGER usage_of_retyped_volume AFTER UPDATE OF type_id ON volumes WHEN OLD.type_id IS NOT NEW.type_id BEGIN
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        SELECT project_id, COALESCE(OLD.type_id, ''), -COUNT(*), -SUM(size) FROM snapshots
            WHERE volume_id = NEW.id GROUP BY project_id
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + excluded.snapshots, snapshot_size = snapshot_size + excluded.snapshot_size;
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        SELECT project_id, COALESCE(NEW.type_id, ''), COUNT(*), SUM(size) FROM snapshots
            WHERE volume_id = NEW.id GROUP BY project_id
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + excluded.snapshots, snapshot_size = snapshot_size + excluded.snapshot_size;
END;

CREATE TRIGGER usage_of_deleted_volume AFTER DELETE ON volumes BEGIN
    UPDATE usage SET volumes = volumes - 1, volume_size = volume_size - OLD.size
        WHERE project_id = OLD.project_id AND type_id = COALESCE(OLD.type_id, '');
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        SELECT project_id, COALESCE(OLD.type_id, ''), -COUNT(*), -SUM(size) FROM snapshots
            WHERE volume_id = OLD.id GROUP BY project_id
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + excluded.snapshots, snapshot_size = snapshot_size + excluded.snapshot_size;
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        SELECT project_id, '', COUNT(*), SUM(size) FROM snapshots WHERE volume_id = OLD.id GROUP BY project_id
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + excluded.snapshots, snapshot_size = snapshot_size + excluded.snapshot_size;
END;

CREATE TRIGGER usage_of_new_snapshot AFTER INSERT ON snapshots BEGIN
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        VALUES (NEW.project_id, COALESCE((SELECT type_id FROM volumes WHERE id = NEW.volume_id), ''), 1, NEW.size)
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + 1, snapshot_size = snapshot_size + excluded.snapshot_size;
END;

CREATE TRIGGER usage_of_changed_snapshot AFTER UPDATE OF project_id, volume_id, size ON snapshots
WHEN OLD.project_id <> NEW.project_id OR OLD.volume_id <> NEW.volume_id OR OLD.size <> NEW.size BEGIN
    UPDATE usage SET snapshots = snapshots - 1, snapshot_size = snapshot_size - OLD.size
        WHERE project_id = OLD.project_id
            AND type_id = COALESCE((SELECT type_id FROM volumes WHERE id = OLD.volume_id), '');
    INSERT INTO usage (project_id, type_id, snapshots, snapshot_size)
        VALUES (NEW.project_id, COALESCE((SELECT type_id FROM volumes WHERE id = NEW.volume_id), ''), 1, NEW.size)
        ON CONFLICT (project_id, type_id) DO UPDATE SET
            snapshots = snapshots + 1, snapshot_size = snapshot_size + excluded.snapshot_size;
END;

CREATE TRIGGER usage_of_deleted_snapshot AFTER DELETE ON snapshots BEGIN
    UPDATE usage SET snapshots = snapshots - 1, snapshot_size = snapshot_size - OLD.size
        WHERE project_id = OLD.project_id
            AND type_id = COALESCE((SELECT type_id FROM volumes WHERE id = OLD.volume_id), '');
END;

-- What counted before.
DROP INDEX volumes_by_usage;
