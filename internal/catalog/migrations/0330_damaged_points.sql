-- Points that are not what was committed are few, and looked for among all.
CREATE INDEX points_damaged ON points (replica_id) WHERE damaged IS NOT NULL;
