-- The audit log, which only grows: each record names all before it by its hash.
-- body is what is hashed; at, call and operation_id are copies that records are
-- found by. The calls of the table audit are taken over when the catalog is
-- opened.
CREATE TABLE audit_log (
    seq          BIGINT  NOT NULL PRIMARY KEY,
    at           BIGINT  NOT NULL,
    call         TEXT    NOT NULL,
    operation_id TEXT    NOT NULL,
    body         TEXT    NOT NULL,
    hash         TEXT    NOT NULL
);

CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_of ON audit_log (operation_id, seq) WHERE operation_id <> '';

-- The last record, in its only row.
CREATE TABLE audit_head (
    one  BIGINT  NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  BIGINT  NOT NULL,
    hash TEXT    NOT NULL
);

INSERT INTO audit_head (one, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Records that are in files, and no more in audit_log.
CREATE TABLE audit_seals (
    last   BIGINT  NOT NULL PRIMARY KEY,
    first  BIGINT  NOT NULL,
    hash   TEXT    NOT NULL,
    file   TEXT    NOT NULL,
    sha256 TEXT    NOT NULL,
    at     BIGINT  NOT NULL
);

CREATE FUNCTION audit_kept() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'the audit log can not be changed';
END $$;

CREATE FUNCTION audit_log_grows() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.seq <> (SELECT seq FROM audit_head) + 1 THEN
        RAISE EXCEPTION 'the audit log grows at its end only';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_log_grows BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_grows();
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_kept();
CREATE TRIGGER audit_log_is_no_less BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION audit_kept();

CREATE FUNCTION audit_log_is_kept() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF OLD.seq > COALESCE((SELECT MAX(last) FROM audit_seals), 0) THEN
        RAISE EXCEPTION 'the audit log can not be changed';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_is_kept();

CREATE FUNCTION audit_head_follows() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.seq <> OLD.seq + 1 OR NOT EXISTS (SELECT 1 FROM audit_log WHERE seq = NEW.seq AND hash = NEW.hash) THEN
        RAISE EXCEPTION 'the audit log can not be changed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_head_follows BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_follows();
CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_kept();
CREATE TRIGGER audit_seals_stay BEFORE UPDATE ON audit_seals FOR EACH ROW EXECUTE FUNCTION audit_kept();
CREATE TRIGGER audit_seals_are_kept BEFORE DELETE ON audit_seals FOR EACH ROW EXECUTE FUNCTION audit_kept();
