-- How far replicas of this zone were sent on to a third one. confirmed is the
-- newest point that that zone holds for certain.
CREATE TABLE relays (
    replica_id TEXT NOT NULL,
    protection BIGINT NOT NULL,
    confirmed  TEXT,
    seen_at    BIGINT,
    current_at BIGINT,
    gone       BOOLEAN NOT NULL,
    error      TEXT NOT NULL,
    bytes_sent BIGINT NOT NULL,
    PRIMARY KEY (replica_id, protection)
);
