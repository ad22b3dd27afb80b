-- Volumes of other zones that two zones took over, of which this one is one:
-- which lost, with the lower epoch. The other of the two is told; settled_at is
-- when it has heard.
CREATE TABLE rivals (
    source_zone TEXT   NOT NULL,
    source_id   TEXT   NOT NULL,
    zone        TEXT   NOT NULL,
    volume_id   TEXT   NOT NULL,
    rival       TEXT   NOT NULL,
    heard_at    BIGINT NOT NULL,
    settled_at  BIGINT,
    PRIMARY KEY (source_zone, source_id, zone, volume_id)
);
