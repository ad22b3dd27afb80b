-- Volumes can be sorted by what their attachments come to: the furthest of them.
ALTER TABLE volumes ADD COLUMN attach_status TEXT NOT NULL DEFAULT 'detached';
UPDATE volumes SET attach_status = COALESCE((SELECT MIN(status) FROM attachments
    WHERE attachments.volume_id = volumes.id AND status IN ('attached', 'attaching')), 'detached')
    WHERE id IN (SELECT volume_id FROM attachments);
CREATE INDEX volumes_sorted_by_attachment ON volumes (attach_status, created_at, id);
