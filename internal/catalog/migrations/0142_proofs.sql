-- Why a point's bytes are not what was committed (NULL for whole ones); how far
-- the reading of replicas is, as JSON; and points of this zone's own volumes that
-- another zone compares its replica with.
ALTER TABLE points ADD COLUMN damaged TEXT;

CREATE TABLE proofs (
    replica_id TEXT NOT NULL PRIMARY KEY,
    proof      TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE proof_leases (
    volume_id TEXT    NOT NULL,
    point_id  TEXT    NOT NULL,
    holder    TEXT    NOT NULL,
    until_at  INTEGER NOT NULL,
    PRIMARY KEY (volume_id, point_id, holder)
) WITHOUT ROWID;
