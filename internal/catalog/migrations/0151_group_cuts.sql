-- The cut that a point was made by together with those of other volumes of its
-- group, and whether a tenant took a group out of replication.
ALTER TABLE points ADD COLUMN cut TEXT;
ALTER TABLE points ADD COLUMN cut_id TEXT;
CREATE INDEX points_by_cut ON points (cut_id) WHERE cut_id IS NOT NULL;
ALTER TABLE volume_groups ADD COLUMN unreplicated BOOLEAN NOT NULL DEFAULT FALSE;
