package replication

import (
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// LinkStatus is how a volume's replication under one protection stands, as the
// source sees it.
type LinkStatus struct {
	Volume     block.VolumeID
	Protection int64
	Zone       block.Zone // destination
	State      catalog.LinkState
	// ReplicatedTo is the instant up to which the target has everything. It is a
	// time and not a lag, so that one who stops looking sees it grow old.
	ReplicatedTo time.Time
	// UnreplicatedSince is when the first change that the target may lack was
	// noticed; zero if there is none.
	UnreplicatedSince time.Time
	// Unreplicated is how many bytes the target lacked as of UnreplicatedAt.
	Unreplicated   int64
	UnreplicatedAt time.Time
	LastError      string
	BytesSent      int64 // on the wire
	Sending        bool  // right now
	// Transfer is how far the step is that is under way, if it takes long; zero
	// otherwise.
	Transfer Transfer
	Gone     bool // deleted here, and the target wasn't told yet
}

// ReplicaStatus is how a replica stands, as its zone sees it.
type ReplicaStatus struct {
	Replica      block.VolumeID
	SourceZone   block.Zone
	Source       block.VolumeID
	Protection   int64
	Epoch        uint64
	Newest       block.Point // the newest committed one
	ReplicatedTo time.Time   // as in LinkStatus
	Receiving    bool        // a stream works on it right now
	LastError    string      // of the last stream that worked on it
	Deleted      time.Time   // when the source said that it deleted the volume
}

// fill takes over what the catalog knows of a link.
func (s *LinkStatus) fill(l catalog.Link, zone block.Zone) {
	s.Volume, s.Protection, s.Zone, s.State = l.Volume, l.Protection, zone, l.State
	s.ReplicatedTo, s.LastError, s.BytesSent, s.Gone = l.Current, l.Error, l.BytesSent, l.Gone
}
