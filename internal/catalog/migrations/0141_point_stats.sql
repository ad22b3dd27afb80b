-- What a point changed, as JSON; what a pending step changed up to its offset;
-- what is known of how a replica's volume changes, and whether that looks as if
-- it had been encrypted (NULL if not).
ALTER TABLE points ADD COLUMN stats TEXT;
ALTER TABLE replicas ADD COLUMN pending_stats TEXT;
ALTER TABLE replicas ADD COLUMN churn TEXT;
ALTER TABLE replicas ADD COLUMN suspicion TEXT;
