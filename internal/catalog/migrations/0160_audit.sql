-- The audit log, which only grows: each record names all before it by its hash.
-- body is what is hashed; at, call and operation_id are copies that records are
-- found by. The calls of the table audit are taken over when the catalog is
-- opened.
CREATE TABLE audit_log (
    seq          INTEGER NOT NULL PRIMARY KEY,
    at           INTEGER NOT NULL,
    call         TEXT    NOT NULL,
    operation_id TEXT    NOT NULL,
    body         TEXT    NOT NULL,
    hash         TEXT    NOT NULL
);

CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_of ON audit_log (operation_id, seq) WHERE operation_id <> '';

-- The last record, in its only row.
CREATE TABLE audit_head (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  INTEGER NOT NULL,
    hash TEXT    NOT NULL
);

INSERT INTO audit_head (one, seq, hash)
VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- Records that are in files, and no more in audit_log.
CREATE TABLE audit_seals (
    last   INTEGER NOT NULL PRIMARY KEY,
    first  INTEGER NOT NULL,
    hash   TEXT    NOT NULL,
    file   TEXT    NOT NULL,
    sha256 TEXT    NOT NULL,
    at     INTEGER NOT NULL
);

CREATE TRIGGER audit_log_grows BEFORE INSERT ON audit_log
WHEN NEW.seq <> (SELECT seq FROM audit_head) + 1
BEGIN SELECT RAISE(ABORT, 'the audit log grows at its end only'); END;

CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log can not be changed'); END;

CREATE TRIGGER audit_log_is_kept BEFORE DELETE ON audit_log
WHEN OLD.seq > COALESCE((SELECT MAX(last) FROM audit_seals), 0)
BEGIN SELECT RAISE(ABORT, 'the audit log can not be changed'); END;

CREATE TRIGGER audit_head_follows BEFORE UPDATE ON audit_head
WHEN NEW.seq <> OLD.seq + 1 OR NOT EXISTS (SELECT 1 FROM audit_log WHERE seq = NEW.seq AND hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'the audit log can not be changed'); END;

CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the audit log can not be changed'); END;

CREATE TRIGGER audit_seals_stay BEFORE UPDATE ON audit_seals
BEGIN SELECT RAISE(ABORT, 'the audit log can not be changed'); END;

CREATE TRIGGER audit_seals_are_kept BEFORE DELETE ON audit_seals
BEGIN SELECT RAISE(ABORT, 'the audit log can not be changed'); END;
