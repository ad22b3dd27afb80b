-- Who asked for a planned failover, by which idempotency key.
ALTER TABLE failovers ADD COLUMN asker TEXT NOT NULL DEFAULT '';
ALTER TABLE failovers ADD COLUMN idempotency_key TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX failovers_once ON failovers (asker, idempotency_key) WHERE idempotency_key <> '';
