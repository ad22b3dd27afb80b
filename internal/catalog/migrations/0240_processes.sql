-- The processes that serve a zone, where several do. id is of one run of a
-- process, so that what an earlier run held is never taken for its own.
CREATE TABLE processes (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    host       TEXT NOT NULL,
    place      TEXT NOT NULL,
    pid        BIGINT NOT NULL,
    url        TEXT NOT NULL,
    version    TEXT NOT NULL,
    state      TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    ends_at    BIGINT NOT NULL
);

-- What one of them does at a time. The token rises with each that takes it over.
-- asked and done number what others want the holder to look at again.
CREATE TABLE duties (
    name    TEXT PRIMARY KEY,
    token   BIGINT NOT NULL,
    holder  TEXT NOT NULL,
    ends_at BIGINT NOT NULL,
    asked   BIGINT NOT NULL,
    done    BIGINT NOT NULL,
    said    TEXT NOT NULL
);

-- Rises with each claim of a job: whoever claimed it before writes no more.
ALTER TABLE jobs ADD COLUMN token BIGINT NOT NULL DEFAULT 0;
