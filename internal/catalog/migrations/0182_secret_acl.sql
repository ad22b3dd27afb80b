-- Who may read a secret besides or instead of its project (Barbican's access
-- list), as JSON; NULL where the project may, as at first.

ALTER TABLE secrets ADD COLUMN acl TEXT;
