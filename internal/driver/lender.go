package driver

import (
	"context"

	"kvol/internal/block"
)

// Lender is a driver whose volumes hosts may use past this process, by the
// store's own protocol, while they are lent. A store that lends nothing says so
// by Lending.
//
// What the exports of this process promise about a host that was cut off is
// weaker here: see each driver's words about it.
type Lender interface {
	// Lending tells hosts how to reach a volume, lent or not; it waits for
	// nothing. ok is false where the store lends nothing.
	Lending(id block.VolumeID) (how Lending, ok bool)
	// Lend lets hosts read and write a volume. From then on, Changes asks the
	// store.
	Lend(ctx context.Context, id block.VolumeID) error
	// Borrowers lists who could write to a volume past this process now.
	Borrowers(ctx context.Context, id block.VolumeID) ([]Borrower, error)
	// Cut ends what borrowers may do, for good: nothing of theirs that is under
	// way is carried out any more. Somebody who was cut before stays so.
	Cut(ctx context.Context, id block.VolumeID, who []Borrower) error
	// Withhold cuts off all borrowers of a volume, and lets no new one write to
	// it until it is lent again. Changes by this process go on.
	Withhold(ctx context.Context, id block.VolumeID) error
	// Reclaim ends the lending of a volume that has no borrowers.
	Reclaim(ctx context.Context, id block.VolumeID) error
}

// Lending is how hosts reach a volume by the store's own protocol.
type Lending struct {
	Protocol string         // as os-brick calls it
	Data     map[string]any // what the protocol's connector wants to know
	// MountPointBase is the directory below which os-brick mounts what Data names;
	// "" where it mounts nothing.
	MountPointBase string
}

// Borrower is a client of the store's that is not this process.
type Borrower struct {
	Address string // as the store writes it
	Host    string // its IP address
}
