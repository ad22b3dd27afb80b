package recovery

import (
	"context"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// Progress is told what is being done and how much of it, in bytes.
type Progress func(step string, done, total int64)

// Fill makes a volume of an order's point in a store, the same way as the
// handler does, and keeps what it began as under the point's id. Nothing is
// written to the catalog: it is for what is no volume. It may be repeated.
func Fill(ctx context.Context, backends *driver.Set, o Order, backend string, p block.Point, progress Progress) (
	Evidence, error,
) {
	h := Handler{cfg: Config{Backends: backends}}
	e := Evidence{Point: p.ID, At: p.At, Root: p.Root, Bytes: p.Size}
	v := block.Volume{ID: o.Volume, Backend: backend, Size: (p.Size + block.GiB - 1) / block.GiB,
		RecoveredFrom: &block.Origin{Point: p}}
	err := h.fill(ctx, progress, o, v, &e)
	return e, err
}
