-- How much may be sent to another zone; protection 0 is all of it together.
CREATE TABLE link_limits (
    zone       TEXT NOT NULL,
    protection BIGINT NOT NULL,
    limits     TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (zone, protection)
);
