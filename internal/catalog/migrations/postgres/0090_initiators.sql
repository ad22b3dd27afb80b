-- The targets of an initiator are found by its name.

ALTER TABLE connections ADD COLUMN initiator TEXT;
UPDATE connections SET initiator = LOWER(connector ->> '$.initiator') WHERE protocol = 'iscsi';
CREATE INDEX connections_by_initiator ON connections (initiator, created_at, id);
