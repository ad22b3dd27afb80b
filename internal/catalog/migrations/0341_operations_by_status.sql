-- Operations that wait for consent are few, and looked for among all.
CREATE INDEX dr_operations_by_status ON dr_operations (status, created_at, id);
