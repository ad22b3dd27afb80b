// Package exporttest is what the tests of the export protocols share: a volume
// to serve, a server that ends with the test, and the clients of others.
package exporttest

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
)

// Volume is one volume of the reference driver, called "v", behind faults.
type Volume struct {
	Faults  *drivertest.Faults
	Store   *mem.Store
	Device  driver.Device
	Revoked chan struct{} // for a test to close
	Uses    atomic.Int64  // that are not released
}

// NewVolume makes a volume. Each Use has to be over when the test ends.
func NewVolume(t testing.TB, size int64) *Volume {
	t.Helper()
	v := &Volume{Store: mem.New(mem.Options{}), Revoked: make(chan struct{})}
	v.Faults = drivertest.NewFaults(v.Store)
	if err := v.Store.CreateVolume(t.Context(), "v", size); err != nil {
		t.Fatal(err)
	}
	dev, err := v.Faults.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	v.Device = dev
	t.Cleanup(func() {
		if n := v.Uses.Load(); n != 0 {
			t.Errorf("%d uses were not released", n)
		}
		dev.Close()
	})
	return v
}

// Use counts a client's use of the volume. To release it twice panics.
func (v *Volume) Use() (release func()) {
	v.Uses.Add(1)
	var over atomic.Bool
	return func() {
		if over.Swap(true) {
			panic("released twice")
		}
		v.Uses.Add(-1)
	}
}

// Holds checks what the volume has at an offset.
func (v *Volume) Holds(t testing.TB, off int64, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := v.Device.ReadAt(got, off); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the volume differs at %d: %v", off, err)
	}
}

// Fill gives n bytes that are the same for each seed.
func Fill(seed byte, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(p) // never fails
	return p
}
