-- What was recovered or moved is named by a rowkey, or by an id of another kind.
CREATE TABLE dr_rtos_named (
    kind    TEXT    NOT NULL,
    subject TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    rto     TEXT    NOT NULL,
    PRIMARY KEY (kind, subject)
);

INSERT INTO dr_rtos_named (kind, subject, at, rto) SELECT kind, CAST(rowkey AS TEXT), at, rto FROM dr_rtos;
DROP TABLE dr_rtos;
ALTER TABLE dr_rtos_named RENAME TO dr_rtos;
CREATE INDEX dr_rtos_at ON dr_rtos (at);
