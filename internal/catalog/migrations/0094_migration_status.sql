-- How far the move of a volume to another backend is, in the words of the API;
-- NULL where none was ever asked for.
ALTER TABLE volumes ADD COLUMN migration_status TEXT;
