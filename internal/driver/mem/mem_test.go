package mem_test

import (
	"testing"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	drivertest.Run(t, func(*testing.T) driver.Driver { return mem.New(mem.Options{}) })
}

// TestFull: a full store answers NoSpace, keeps what it has, can delete, and
// goes on when there is room again.
func TestFull(t *testing.T) {
	const blocks = 8
	ctx := t.Context()
	s := mem.New(mem.Options{Capacity: blocks * driver.BlockSize})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.CreateVolume(ctx, "v", 100*driver.BlockSize))
	dev, err := s.OpenVolume(ctx, "v")
	must(err)
	p := make([]byte, driver.BlockSize)
	for round := range 3 { // overwriting takes no room
		for i := range int64(blocks) {
			p[0] = byte(round)
			_, err := dev.WriteAt(p, i*driver.BlockSize)
			must(err)
		}
	}
	if _, err := dev.WriteAt(p, 50*driver.BlockSize); !block.Is(err, block.NoSpace) {
		t.Fatalf("write to a full store: %v", err)
	}
	must(s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "s"}))
	must(dev.Zero(0, 100*driver.BlockSize))
	if _, err := dev.WriteAt(p, 0); !block.Is(err, block.NoSpace) {
		t.Fatalf("write while a snapshot holds all: %v", err)
	}
	must(s.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "s"}))
	if c, err := s.Capacity(ctx); err != nil || c.Free != c.Total {
		t.Fatalf("Capacity after the deletion: %+v, %v", c, err)
	}
	_, err = dev.WriteAt(p, 0)
	must(err)
}
