package drivertest_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bare is a driver with nothing beyond the contract.
type bare struct{ driver.Driver }

func TestRunOnDriverWithoutCapabilities(t *testing.T) {
	drivertest.Run(t, func(*testing.T) driver.Driver { return bare{mem.New(mem.Options{})} })
}

func TestRunThroughFaults(t *testing.T) {
	drivertest.Run(t, func(*testing.T) driver.Driver { return drivertest.NewFaults(mem.New(mem.Options{})) })
}

func TestRunReopen(t *testing.T) {
	opened, store := 0, mem.New(mem.Options{})
	drivertest.RunReopen(t, func(*testing.T, string) driver.Driver { opened++; return store })
	if opened < 10 {
		t.Errorf("the store was opened %d times", opened)
	}
}

func TestFaults(t *testing.T) {
	ctx, boom := t.Context(), errors.New("boom")
	f := drivertest.NewFaults(mem.New(mem.Options{}))
	f.FailNth(drivertest.OpCreateVolume, 2, boom)
	for i, want := range []error{nil, boom, nil} {
		if err := f.CreateVolume(ctx, block.VolumeID(rune('a'+i)), driver.BlockSize); !errors.Is(err, want) {
			t.Errorf("call %d: got %v, want %v", i+1, err, want)
		}
	}
	if n := f.Calls(drivertest.OpCreateVolume); n != 3 {
		t.Errorf("counted %d calls", n)
	}
	dev, err := f.OpenVolume(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	f.SetRule(func(c drivertest.Call) error {
		if c.Op == drivertest.OpWrite && c.After && c.Off == 8 && c.Volume == "a" {
			return boom
		}
		return nil
	})
	p := make([]byte, 1)
	if _, err := dev.WriteAt([]byte{42}, 8); !errors.Is(err, boom) {
		t.Errorf("a lost answer: got %v", err)
	}
	if _, err := dev.ReadAt(p, 8); err != nil || p[0] != 42 {
		t.Errorf("the write whose answer was lost is not there: %v, %v", p, err)
	}
	if _, ok := driver.As[driver.Differ](f); !ok {
		t.Error("capabilities are not found through the wrapper")
	}
	f.SetRule(func(drivertest.Call) error { return boom })
	if err := dev.Flush(); !errors.Is(err, boom) {
		t.Errorf("flush: got %v", err)
	}
}
