-- SQLite's way to look into a document that is kept as a text, for the statements
-- that both databases read: the path begins with "$.".
CREATE FUNCTION json_text(document TEXT, path TEXT) RETURNS TEXT LANGUAGE SQL IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT document::jsonb #>> string_to_array(substr(path, 3), '.') $$;
CREATE OPERATOR ->> (LEFTARG = TEXT, RIGHTARG = TEXT, FUNCTION = json_text);
