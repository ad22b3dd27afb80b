-- The highest bid of each zone for a volume of another one that this zone made
-- (zone is this one) or granted: it takes the volume over with no epoch below a
-- granted one.
CREATE TABLE bids (
    source_zone TEXT   NOT NULL,
    source_id   TEXT   NOT NULL,
    zone        TEXT   NOT NULL,
    epoch       BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (source_zone, source_id, zone)
);

-- Fences are told to all other zones, from a revision on.
ALTER TABLE fences ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
UPDATE fences SET revision = numbered.n FROM
    (SELECT source_zone, source_id, ROW_NUMBER() OVER (ORDER BY source_zone, source_id) AS n FROM fences) AS numbered
    WHERE numbered.source_zone = fences.source_zone AND numbered.source_id = fences.source_id;
INSERT INTO sequences (name, value) SELECT 'fences', COALESCE(MAX(revision), 0) FROM fences;
CREATE INDEX fences_since ON fences (revision);

-- The zones that have replicas of a replica's volume, as its source told; NULL
-- where it told nothing.
ALTER TABLE replicas ADD COLUMN holders TEXT;
