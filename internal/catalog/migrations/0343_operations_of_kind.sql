-- The newest operations of a kind are found among those of that kind.
CREATE INDEX dr_operations_of_kind ON dr_operations (kind, created_at DESC, id);
CREATE INDEX dr_operations_of_project_kind ON dr_operations (project_id, kind, created_at DESC, id);
