-- What stores found damaged. A row whose state is 'damaged' is an alarm that
-- stands; it stays as a record when that is over.

CREATE TABLE damages (
    store      TEXT    NOT NULL,
    place      TEXT    NOT NULL,
    what       TEXT    NOT NULL,
    volume_id  TEXT    NOT NULL,
    off        BIGINT  NOT NULL,
    length     BIGINT  NOT NULL,
    segment    BIGINT  NOT NULL,
    segment_at BIGINT  NOT NULL,
    state      TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    found_at   BIGINT  NOT NULL,
    changed_at BIGINT  NOT NULL,
    PRIMARY KEY (store, place)
);

CREATE INDEX damages_by_state ON damages (state, changed_at);
