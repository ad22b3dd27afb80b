// Package driver is the contract for holding bytes: what a store must do for
// volumes and snapshots, and the few things that it may do beyond. It knows no
// catalog, no tenants and no protocol. drivertest has the suite that every
// driver passes; mem is the reference.
package driver

import (
	"context"
	"io"
	"iter"

	"kvol/internal/block"
)

// BlockSize is the granule of change tracking, hashing and alignment, in
// bytes. Devices take reads and writes at any byte offset.
const BlockSize = 4096

// SnapshotRef names a snapshot: a moment of a volume. Recovery points and
// tenants' snapshots are both snapshots to a driver. The name is unique within
// its volume. The zero SnapshotRef is "before the volume was": all zeros.
type SnapshotRef struct {
	Volume block.VolumeID
	Name   block.PointID
}

// Zero reports whether r names nothing.
func (r SnapshotRef) Zero() bool { return r == SnapshotRef{} }

// Driver keeps volumes in one store. Its methods may be called at once from
// many goroutines. Every change may be repeated after a crash: creating what
// exists with the same size and deleting what is gone succeed. A change that
// returned nil survives a power cut.
//
// Errors carry a block.Kind: NotFound for a volume or snapshot that is not
// there, Conflict for one that is in use or has another size, NoSpace for a
// full store, Corrupt for bytes that fail their checksum, Unavailable for a
// store that can't be reached or was poisoned by a failed sync.
type Driver interface {
	// CreateVolume makes a volume of size bytes that reads as zeros. size is a
	// multiple of BlockSize.
	CreateVolume(ctx context.Context, id block.VolumeID, size int64) error
	// CloneSnapshot makes a volume whose content is that of a snapshot, and zeros
	// beyond it; size is at least the snapshot's. It costs metadata only where
	// the driver has copy-on-write. The snapshot may be deleted afterwards.
	CloneSnapshot(ctx context.Context, id block.VolumeID, from SnapshotRef, size int64) error
	// ExtendVolume grows a volume, open or not; the new part reads as zeros.
	// Asking for no more than it has changes nothing.
	ExtendVolume(ctx context.Context, id block.VolumeID, size int64) error
	// DeleteVolume removes a volume and its snapshots. Clones made from them live
	// on. A volume that is open is a Conflict. The id may be used again.
	DeleteVolume(ctx context.Context, id block.VolumeID) error

	// CreateSnapshot names the present moment of a volume, open or not: all
	// writes that completed before the call are in it. A name that exists
	// already stays as it is, and the call succeeds.
	CreateSnapshot(ctx context.Context, ref SnapshotRef) error
	DeleteSnapshot(ctx context.Context, ref SnapshotRef) error

	// OpenVolume opens a volume for reading and writing, once at a time: a
	// second open before Close is a Conflict.
	OpenVolume(ctx context.Context, id block.VolumeID) (Device, error)
	// OpenSnapshot opens a snapshot for reading, any number of times. Deleting
	// it meanwhile is a Conflict or leaves the Reader working.
	OpenSnapshot(ctx context.Context, ref SnapshotRef) (Reader, error)

	// Volumes lists what is in the store, in no order.
	Volumes(ctx context.Context) iter.Seq2[VolumeInfo, error]
	// Snapshots lists a volume's snapshots from old to new.
	Snapshots(ctx context.Context, id block.VolumeID) ([]SnapshotInfo, error)
	// Capacity tells how much the store holds.
	Capacity(ctx context.Context) (Capacity, error)
	// Close ends the use of the store. Devices and Readers must be closed before.
	Close() error
}

// Device is an open volume. Its methods may be called at once from many
// goroutines; overlapping writes that are under way together end in either
// order, block by block.
//
// A write that returned is seen by every later read and survives a kill of the
// process; after Flush returned nil, every write that had returned before the
// call survives a power cut. ReadAt and WriteAt beyond Size fail with Invalid
// and change nothing.
type Device interface {
	io.ReaderAt
	io.WriterAt
	// Zero makes a range read as zeros and gives its space back.
	Zero(off, length int64) error
	Flush() error
	// Size in bytes; it may grow while the device is open.
	Size() int64
	Close() error
}

// Reader is an open snapshot, for use by many goroutines at once.
type Reader interface {
	io.ReaderAt
	Size() int64
	Close() error
}

// VolumeInfo is what a store knows of a volume.
type VolumeInfo struct {
	ID   block.VolumeID
	Size int64 // bytes
}

// SnapshotInfo is what a store knows of a snapshot.
type SnapshotInfo struct {
	Name block.PointID
	Size int64 // bytes, of the volume at that moment
}

// Capacity of a store, in bytes.
type Capacity struct {
	Total, Free int64
}

// Extent is a range of a volume, in bytes, aligned to BlockSize but for the
// end of a volume. Zero says that it reads as zeros.
type Extent struct {
	Off, Len int64
	Zero     bool
}

// End is the offset just past the extent.
func (e Extent) End() int64 { return e.Off + e.Len }

// Differ is a driver that knows what changed.
type Differ interface {
	// Diff yields, in order of offset and without overlap, the extents that may
	// differ between two snapshots of one volume, the older first. With a zero
	// from it yields what is allocated at to. It must never leave out a block
	// that differs. Where to is larger, the new part reads as zeros unless it
	// is yielded; where it is smaller, nothing beyond its size is yielded.
	Diff(ctx context.Context, from, to SnapshotRef) iter.Seq2[Extent, error]
}

// Piece is an extent with its bytes. Data is nil for zeros, and where whoever wants
// the bytes has to read them.
type Piece struct {
	Extent
	Data []byte
}

// DiffReader is a Differ that has what changed with its bytes for less than asking
// what changed and reading that.
type DiffReader interface {
	// ReadDiff yields what Diff does, data in pieces of MaxPiece bytes at most, which
	// are the caller's. size is that of the younger snapshot, in bytes. It is nil where
	// asking and reading is the better way.
	ReadDiff(ctx context.Context, from, to SnapshotRef, size int64) iter.Seq2[Piece, error]
}

// MaxPiece is how much data one Piece has at most, in bytes.
const MaxPiece = 1 << 20

// Reverter is a driver that can take a volume back to a snapshot at the cost
// of metadata. Later snapshots are lost. The volume must not be open.
type Reverter interface {
	Revert(ctx context.Context, to SnapshotRef) error
}

// GroupSnapshotter is a driver that can name one instant of many volumes: for
// any two writes of which the first completed before the second began, on
// whichever of the volumes, no snapshot has the second where another lacks the
// first. Where all are there it changes nothing; where some are, as a call that was
// interrupted may leave them, all are made anew.
type GroupSnapshotter interface {
	CreateSnapshots(ctx context.Context, refs []SnapshotRef) error
}

// ChangeCounter is a driver that can tell cheaply whether a volume changed: a
// number that differs whenever the content may differ.
type ChangeCounter interface {
	Changes(ctx context.Context, id block.VolumeID) (uint64, error)
}

// ExtentReader is a Reader or Device that knows which ranges hold data, so
// that copies and exports can leave zeros out.
type ExtentReader interface {
	// Extents yields ranges that cover [off, off+length) in order; data where
	// Zero is false. Neighbouring extents may be of one kind.
	Extents(off, length int64) iter.Seq2[Extent, error]
}

// Distant is a driver that asks other machines for what it reads and writes: one
// request takes long, and several at once hardly longer.
type Distant interface {
	// Depth is how many requests to one device or reader are worth having under
	// way at once.
	Depth() int
}

// Part is one of several writes.
type Part struct {
	Off  int64
	Data []byte
}

// ManyWriter is a Device that carries out several writes for less than one by
// one costs.
type ManyWriter interface {
	// WriteMany writes parts in their order, each as WriteAt would, and tells how
	// many were written whole. An error is about the one after those.
	WriteMany(parts []Part) (done int, err error)
}

// Unwrapper is a driver that stands in front of another: faults, throttles and
// metrics are such.
type Unwrapper interface{ Unwrap() Driver }

// As finds the capability T in d or in what d wraps, the outermost first.
func As[T any](d Driver) (T, bool) {
	for d != nil {
		if t, ok := d.(T); ok {
			return t, true
		}
		u, ok := d.(Unwrapper)
		if !ok {
			break
		}
		d = u.Unwrap()
	}
	var none T
	return none, false
}
