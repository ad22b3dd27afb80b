package dr

import (
	"testing"
	"time"
)

// TestLeftOutRefusalsAreCounted: what was left out is told by the next that is
// written.
func TestLeftOutRefusalsAreCounted(t *testing.T) {
	now := time.Unix(0, 0)
	r := newRefusals(2, time.Minute, func() time.Time { return now })
	for i, want := range []bool{true, true, false, false, false} {
		if before, ok := r.take(); ok != want || before != 0 {
			t.Errorf("%d: %d, %v", i, before, ok)
		}
	}
	now = now.Add(time.Minute)
	if before, ok := r.take(); !ok || before != 3 {
		t.Errorf("%d, %v", before, ok)
	}
	if before, ok := r.take(); ok || before != 0 {
		t.Errorf("%d, %v", before, ok)
	}
}
