-- Backups of encrypted volumes have copies of their keys.

ALTER TABLE backups ADD COLUMN encryption_key_id TEXT;
ALTER TABLE backups ADD COLUMN encryption TEXT;
CREATE INDEX backups_by_key ON backups (encryption_key_id) WHERE encryption_key_id IS NOT NULL;
