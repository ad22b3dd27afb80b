package nbd_test

import (
	"log/slog"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/export/nbd"
)

// torn is a device whose first block can't be read without a panic.
type torn struct{ driver.Device }

func (d torn) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 {
		panic("torn")
	}
	return d.Device.ReadAt(p, off)
}

// TestPanicEndsItsConnection: a request that panics with a worker ends its own
// connection; the server goes on with others.
func TestPanicEndsItsConnection(t *testing.T) {
	s := newShelf(t, testSize)
	s.Device = torn{s.Device}
	path, _ := serve(t, nbd.Config{Exports: s, Log: slog.New(slog.DiscardHandler)})
	w, other := enter(t, path, "vol", false), enter(t, path, "vol", false)
	w.request(0, 0, 0, 1<<20)
	w.gone()
	other.request(0, 0, 4096, 1)
	other.plain(0, 0)
	other.read(1)
}
