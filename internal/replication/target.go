package replication

import (
	"context"
	"errors"

	"kvol/internal/block"
)

// Target is the end that keeps the copy of one volume, wherever it runs. Its
// methods are called by one goroutine, Offer first. An error of kind Stale
// means that somebody holds a higher epoch; Fenced in its chain says who.
// After an error nothing but Close may be called.
type Target interface {
	// Offer names the volume and returns what the target holds of it.
	Offer(ctx context.Context, o Offer) (Have, error)
	// Begin makes the target ready for a step and returns the offset from which
	// on it wants the step's runs.
	Begin(ctx context.Context, s block.Step) (offset int64, err error)
	// Write hands over the step's next run. Its error may be that of an earlier
	// run. r.Data is the caller's again when Write returns.
	Write(ctx context.Context, r Run) error
	// Commit ends the step and returns the committed point. Corrupt means that
	// the target computed another root; it has then gone back to the base. With
	// c.Mirror, a point without an ID says that the bytes did not come in that way.
	Commit(ctx context.Context, c Commit) (block.Point, error)
	// Heartbeat says that the newest point is the volume's content still.
	Heartbeat(ctx context.Context, h Heartbeat) error
	// Gone says that the volume was deleted.
	Gone(ctx context.Context) error
	// Close ends the work on the volume.
	Close() error
}

// Fenced is an error of kind Stale that says where the volume lives on.
type Fenced struct {
	Recovered block.Recovered // zero where the target doesn't know
	Err       error           // a *block.Error of kind Stale
}

func (f *Fenced) Error() string { return f.Err.Error() }

func (f *Fenced) Unwrap() error { return f.Err }

// fencedBy returns where a volume lives on if err says so.
func fencedBy(err error) (block.Recovered, bool) {
	var f *Fenced
	if errors.As(err, &f) && f.Recovered.Epoch != 0 {
		return f.Recovered, true
	}
	return block.Recovered{}, false
}

func staleEpoch(volume block.VolumeID, have, got uint64, r block.Recovered) error {
	return &Fenced{Recovered: r, Err: block.Errorf(block.Stale,
		"volume %s is at epoch %d here, and epoch %d was offered", volume, have, got)}
}
