package replication

import (
	"context"
	"log/slog"
	"net"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
)

// PeerDialer opens streams to other zones. It is called by many goroutines at
// once.
type PeerDialer interface {
	// Replicate opens a stream to a zone's Receiver; Unavailable if the zone
	// can't be reached.
	Replicate(ctx context.Context, zone block.Zone) (net.Conn, error)
}

// SenderConfig is what a Sender works with.
type SenderConfig struct {
	Catalog  *catalog.Catalog
	Backends *driver.Set
	Zone     block.Zone // this one; it is the source
	// Protections lists the policies as they are now; those of other source
	// zones are passed over.
	Protections func() []block.Protection
	Dialer      PeerDialer
	// SealKey seals the key of a volume, if it is encrypted, for the zone whose
	// Have.Box it is given; nil where no volume is.
	SealKey func(ctx context.Context, v block.Volume, box []byte) ([]byte, error)
	// Relays lists the policies by which replicas of this zone are sent on to third
	// ones, for good; nil for none. Reseal seals the key of an encrypted volume that
	// came sealed for this zone for the one whose Have.Box it is given.
	Relays func() []block.Protection
	Reseal func(source block.VolumeID, sealed, box []byte) ([]byte, error)
	// Fenced is told that a volume of this zone was recovered in another one. It
	// marks the volume as a stale primary; it may be told again.
	Fenced func(ctx context.Context, f block.Fence) error
	// Compare is for volumes that have no point in common with their replicas any
	// more; nil where no zone can be asked: then they are sent whole.
	Compare Compare
	// Limits says how much may be sent to a zone, as it is now; nil for as much as
	// the network takes. Sender.Repace says that it changed. It must not block.
	Limits func(to block.Zone) LinkLimits
	// Observe is told whenever a target confirmed something; nil for nobody. It
	// must not block.
	Observe func(Advance)

	Now func() time.Time // the system's clock if nil
	Log *slog.Logger     // discarded if nil
	// Rand returns a number in [0, 1) for jitter; math/rand's if nil.
	Rand func() float64

	// Sessions is how many volumes are sent at a time from one store here to one backend
	// of another zone of which there is little to send, and as many first copies and
	// others that take long; 4 if 0.
	Sessions  int
	Heartbeat time.Duration // the least time between two heartbeats of an idle volume; 5 s if 0
	ScanEvery time.Duration // how often volumes that are new to it are looked for; 5 s if 0
	Patience  time.Duration // how long a peer may say nothing; 1 min if 0
	// RelieveEvery is how often, at most, something is given up that a target needs
	// where a store runs out of room; 10 s if 0.
	RelieveEvery time.Duration
}

// ReceiverConfig is what a Receiver works with.
type ReceiverConfig struct {
	Catalog  *catalog.Catalog
	Backends *driver.Set
	Zone     block.Zone // this one; it is the destination
	// Protections lists the policies as they are now. Streams for others are
	// refused.
	Protections func() []block.Protection
	Box         []byte // what sources seal keys of volumes with; see Have
	// Fenced is told that a volume of this zone was recovered in the zone that
	// offers it back; see SenderConfig.Fenced. May be nil.
	Fenced func(ctx context.Context, f block.Fence) error
	// Observe is told whenever something was committed; nil for nobody. It must
	// not block.
	Observe func(Advance)
	// Doubt is told of a replica out of which a point with a wrong root came: its
	// bytes may have been wrong before. nil for nobody. It must not block.
	Doubt func(replica block.VolumeID)

	Now func() time.Time // the system's clock if nil
	Log *slog.Logger     // discarded if nil

	// HoldClean is how long the last point of a volume before something that looks
	// like sudden encryption is held; 7 days if 0, not at all if negative.
	HoldClean   time.Duration
	AfterDelete time.Duration // how long the replica of a deleted volume is kept; 24 h if 0, not at all if negative
	KeepEvery   time.Duration // how often replicas are tidied by Run; 1 min if 0
	Patience    time.Duration // how long a stream may stand still; 1 min if 0
}
