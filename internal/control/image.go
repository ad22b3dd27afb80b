package control

import (
	"context"
	"io"

	"kvol/internal/block"
)

// Image is what the volume service needs to know of an image (the part of
// Glance's image that clients of volumes use).
type Image struct {
	ID, Name, Status, DiskFormat, ContainerFormat, Checksum, Visibility string

	Size        int64 // bytes, as stored
	MinDisk     int64 // GiB
	MinRAM      int64 // MiB
	VirtualSize int64 // bytes once converted to raw; 0 if unknown
	Protected   bool
	Properties  map[string]string
}

// Images is the image service as volumes see it: the embedded one or Glance.
// Its methods may be called at once.
type Images interface {
	// Find returns an image by id, or by name if the caller sees exactly one of
	// it. An image that the caller may not see is NotFound.
	Find(ctx context.Context, c block.Caller, idOrName string) (Image, error)
	// Open reads an image's bytes as they are stored. Who reads to the end, and
	// gets no error, has all of them, and those that were uploaded; where they are
	// not, it is Corrupt.
	Open(ctx context.Context, c block.Caller, id string) (io.ReadCloser, error)
	// Create makes an image that waits for its bytes (status "queued"). An
	// Image.ID that is set is the new image's id, and creating it again with
	// the same id is a Conflict.
	Create(ctx context.Context, c block.Caller, img Image) (Image, error)
	// Upload gives a queued image its bytes; afterwards it is "active".
	Upload(ctx context.Context, c block.Caller, id string, r io.Reader) error
	// Delete removes an image; NotFound if it is gone already.
	Delete(ctx context.Context, c block.Caller, id string) error
}
