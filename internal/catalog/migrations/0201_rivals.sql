-- Volumes of other zones that this zone took over and another zone as well,
-- under a lower epoch: what is to be told to that zone. settled_at is when it
-- said that nobody writes to its volume any more.
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
