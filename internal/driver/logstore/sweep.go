package logstore

import "context"

func (s *Store) wakeSweeper() {
	select {
	case s.sweep <- struct{}{}:
	default:
	}
}

func (s *Store) sweepInBackground(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.sweep:
		}
	}
}
