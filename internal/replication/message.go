package replication

import (
	"time"

	"kvol/internal/block"
)

// Offer opens the work on one volume: the source names it and its epoch.
type Offer struct {
	Volume     block.VolumeID
	Protection int64 // Seq
	Epoch      uint64
	// Origin is told to the zone from which the volume was recovered, before any
	// point of it is there: the target may begin with what it has itself.
	Origin *block.Origin `json:",omitempty"`
	// Holders are the zones that have, or will have, replicas of the volume: who
	// takes it over asks the others before. Empty and not nil for none.
	Holders []block.Zone
	// Gone says that the volume was deleted, and nothing more comes of it.
	Gone bool `json:",omitempty"`
}

// Have is the target's answer to an Offer.
type Have struct {
	Replica block.VolumeID // "" before the first step
	Epoch   uint64         // the highest that the target knows of
	Points  []block.Point  // committed, from old to new: all named ones, and the newest of the others
	Pending *block.Step    // begun and not committed
	Offset  int64          // how far Pending durably got
	Box     []byte         // the target's public key, by which keys are sealed for it
	// Whole says why the target could not begin with the origin that was offered;
	// "" if it did.
	Whole string `json:",omitempty"`
	// Mirror says that the target's store can have the bytes by the mirroring of
	// storage clusters.
	Mirror bool `json:",omitempty"`
}

// newest returns the point that was committed last.
func (h Have) newest() block.Point {
	if len(h.Points) == 0 {
		return block.Point{}
	}
	return h.Points[len(h.Points)-1]
}

// Run is a stretch of a step's bytes. Runs of a step come in order of offset
// and don't overlap.
type Run struct {
	Off, Len int64
	Data     []byte // Len bytes; nil if the stretch reads as zeros
	Sent     int64  // the bytes that Data took on the way; 0 where it took none
}

// End is the offset just past the run.
func (r Run) End() int64 { return r.Off + r.Len }

// Commit ends a step.
type Commit struct {
	Root  block.RootHash // of the target point, as the source computed it
	Entry block.Entry    // the volume's catalog entry as of the target point
	// Mirror is the moment that the target's copy of the source's image must have
	// reached, where no runs were sent; 0 where they were.
	Mirror uint64 `json:",omitempty"`
}

// Heartbeat says that nothing changed: the volume's content is that of Point
// as of At.
type Heartbeat struct {
	Point block.PointID
	At    time.Time    // on the source's clock
	Entry *block.Entry // if it changed
	Drop  []block.PointID
}
