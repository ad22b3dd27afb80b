-- What lies on each backend, kept by the database itself, so that a place for a
-- new volume is found by a few rows however many volumes there are.
CREATE TABLE backend_usage (
    backend TEXT   NOT NULL,
    volumes BIGINT NOT NULL DEFAULT 0,
    gib     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (backend)
) WITHOUT ROWID;

INSERT INTO backend_usage (backend, volumes, gib)
    SELECT backend, COUNT(*), SUM(size) FROM volumes WHERE TRUE GROUP BY backend;

CREATE TRIGGER backend_usage_of_new_volume AFTER INSERT ON volumes BEGIN
    INSERT INTO backend_usage (backend, volumes, gib) VALUES (NEW.backend, 1, NEW.size)
        ON CONFLICT (backend) DO UPDATE SET volumes = volumes + 1, gib = gib + excluded.gib;
END;

CREATE TRIGGER backend_usage_of_changed_volume AFTER UPDATE OF backend, size ON volumes
WHEN OLD.backend <> NEW.backend OR OLD.size <> NEW.size BEGIN
    UPDATE backend_usage SET volumes = volumes - 1, gib = gib - OLD.size WHERE backend = OLD.backend;
    INSERT INTO backend_usage (backend, volumes, gib) VALUES (NEW.backend, 1, NEW.size)
        ON CONFLICT (backend) DO UPDATE SET volumes = volumes + 1, gib = gib + excluded.gib;
END;

CREATE TRIGGER backend_usage_of_deleted_volume AFTER DELETE ON volumes BEGIN
    UPDATE backend_usage SET volumes = volumes - 1, gib = gib - OLD.size WHERE backend = OLD.backend;
END;
