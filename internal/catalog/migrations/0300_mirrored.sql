-- Volumes whose clusters mirror them for a link, and how the bytes of a link's
-- newest point went.

ALTER TABLE links ADD COLUMN mirrored BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE links ADD COLUMN transport TEXT NOT NULL DEFAULT '';
