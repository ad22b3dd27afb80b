-- Which volume of another zone a volume continues, as JSON; and why the first
-- copy of a volume went whole to the zone that it came from ("" for no reason).
ALTER TABLE volumes ADD COLUMN recovered_from TEXT;
ALTER TABLE links ADD COLUMN whole TEXT NOT NULL DEFAULT '';
