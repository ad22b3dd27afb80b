-- Open jobs of one kind are found without a look at all that are open.
CREATE INDEX jobs_open_of_kind ON jobs (kind, id) WHERE ended_at IS NULL;
