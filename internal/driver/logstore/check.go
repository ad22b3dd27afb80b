package logstore

import "context"

// Check verifies.
func (s *Store) Check(ctx context.Context) error { return s.usable(ctx) }
