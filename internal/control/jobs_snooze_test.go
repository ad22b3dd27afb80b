package control

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/job"
)

// TestWaitingJobsAreNotGivenUp has a job wait for the end of a fault, of which
// kind it may be: a planned failover whose source's disk was full for a moment
// was given up, and its volume left read-only for ever.
func TestWaitingJobsAreNotGivenUp(t *testing.T) {
	for kind := block.Invalid; kind <= block.Unsupported; kind++ {
		waits := job.Snooze(time.Second, block.Errorf(kind, "not now"))
		h := handler{func(context.Context, *job.Task) error { return waits }, nobody}
		if err := h.Run(t.Context(), nil); err != waits {
			t.Errorf("kind %s: a job that waits ends with %v", kind, err)
		}
	}
}
