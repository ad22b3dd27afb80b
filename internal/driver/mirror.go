package driver

import (
	"context"

	"kvol/internal/block"
)

// Mirrorer is a driver whose cluster has its volumes copied to another cluster
// by itself, under the same ids. What it copies is a means of transport: nothing
// is known of a copy but how far it is, and nobody makes a volume of it.
type Mirrorer interface {
	// Mirror has the other cluster get what a volume is now, with its snapshots, and
	// returns what to ask for there. It does not wait. Each call is a new moment.
	// Unsupported says that this volume can't be mirrored.
	Mirror(ctx context.Context, id block.VolumeID) (moment uint64, err error)
	// Mirrored tells how far the copy of another cluster's volume is. NotFound says
	// that there is none yet, Conflict that what is there is no copy (any more).
	Mirrored(ctx context.Context, id block.VolumeID, moment uint64) (MirrorState, error)
	// Unmirror ends the mirroring of a volume of this cluster, and removes the copy.
	// One that is not mirrored, or not there, stays as it is.
	Unmirror(ctx context.Context, id block.VolumeID) error
}

// MirrorState is how far a copy is.
type MirrorState struct {
	Whole bool // the moment that was asked for, or a later one, is there with all that it had
	// Far differs when something was copied meanwhile.
	Far string
}
