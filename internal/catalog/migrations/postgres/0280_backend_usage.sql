-- What lies on each backend, as on SQLite: kept by the database itself.
CREATE TABLE backend_usage (
    backend TEXT   NOT NULL,
    volumes BIGINT NOT NULL DEFAULT 0,
    gib     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (backend)
);

INSERT INTO backend_usage (backend, volumes, gib)
    SELECT backend, COUNT(*), SUM(size) FROM volumes GROUP BY backend;

CREATE FUNCTION backend_usage_add(of TEXT, n BIGINT, more BIGINT) RETURNS VOID LANGUAGE SQL AS $$
    INSERT INTO backend_usage (backend, volumes, gib) VALUES (of, n, more)
        ON CONFLICT (backend) DO UPDATE SET volumes = backend_usage.volumes + n, gib = backend_usage.gib + more
$$;

CREATE FUNCTION backend_usage_of_volume() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM backend_usage_add(OLD.backend, -1, -OLD.size);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM backend_usage_add(NEW.backend, 1, NEW.size);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER backend_usage_of_volume AFTER INSERT OR DELETE OR UPDATE OF backend, size ON volumes
    FOR EACH ROW EXECUTE FUNCTION backend_usage_of_volume();
