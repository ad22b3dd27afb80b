-- What administrators said of services. One that is not there is enabled and
-- thawed.

CREATE TABLE services (
    kind       TEXT NOT NULL, -- cinder-volume, cinder-scheduler, ...
    backend    TEXT NOT NULL, -- '' for a service that has none
    disabled   BOOLEAN NOT NULL,
    reason     TEXT,
    frozen     BOOLEAN NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, backend)
);
