package logstore

import "sync/atomic"

type census struct{ live atomic.Int64 }

func (s *Store) reclaim() error { return nil }
