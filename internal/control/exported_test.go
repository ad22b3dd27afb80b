package control

import (
	"errors"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// openedInMemory opens a new volume until the test ends.
func openedInMemory(t *testing.T) driver.Device {
	t.Helper()
	store := mem.New(mem.Options{})
	if err := store.CreateVolume(t.Context(), "v", block.GiB); err != nil {
		t.Fatal(err)
	}
	dev, err := store.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dev.Close() }) // nothing is kept
	return dev
}

// TestLeaseEndsWithinWrites: of writes that are carried out together none is
// acknowledged if the lease ends meanwhile.
func TestLeaseEndsWithinWrites(t *testing.T) {
	dev := openedInMemory(t)
	began, looks := time.Now(), 0
	l := &leases{now: func() time.Time { looks++; return began.Add(time.Duration(looks) * time.Second) },
		until: map[int64]time.Time{1: began.Add(1500 * time.Millisecond)}}
	x := &exported{volume: "v"}
	x.permit(dev, false, l, []int64{1})
	p := make([]byte, driver.BlockSize)
	n, err := exportedDevice{x}.WriteMany([]driver.Part{{Off: 0, Data: p}, {Off: driver.BlockSize, Data: p}})
	if n != 0 || !block.Is(err, block.Unavailable) || looks != 2 {
		t.Errorf("%d writes were acknowledged, %v, after %d looks", n, err, looks)
	}
}

// TestReadsEndWithTheLead: what was read from the volume after another process took
// the exports over is not answered: by then the volume may be somebody else's.
func TestReadsEndWithTheLead(t *testing.T) {
	dev := openedInMemory(t)
	asked := 0
	leash := func() error {
		if asked++; asked > 1 {
			return errors.New("the lead is another's")
		}
		return nil
	}
	x := &exported{volume: "v", exports: &Exports{s: &Service{cfg: Config{Leash: leash}}}}
	x.permit(dev, true, nil, nil)
	_, err := exportedDevice{x}.ReadAt(make([]byte, driver.BlockSize), 0)
	if !block.Is(err, block.Unavailable) || asked != 2 {
		t.Errorf("a read that ended after the lead did is answered: %v, after %d looks", err, asked)
	}
}

// TestReleasedExportsAreNoUsers: an export that is done counts as no user of the
// volume's device from before it gives its hold back, or another borrower's would be
// taken for it, and its device exchanged under it.
func TestReleasedExportsAreNoUsers(t *testing.T) {
	dev := openedInMemory(t)
	x := &exported{volume: "v", revoked: make(chan struct{})}
	e := &Exports{s: &Service{}, open: map[*exported]struct{}{x: {}}}
	x.permit(dev, false, nil, nil)
	users := func() int {
		paused := e.pause("v")
		defer paused.resume()
		return paused.users()
	}
	if n := users(); n != 1 {
		t.Errorf("%d users of an export's device", n)
	}
	asked := false
	e.export(x, block.Volume{ID: "v"}, func() error {
		asked = true
		if n := users(); n != 0 {
			t.Errorf("%d users while the only one gives its hold back", n)
		}
		return nil
	}).Release()
	if !asked {
		t.Error("the hold was not given back")
	}
}

// TestLeaseOfAnotherType: an export that is open needs the lease of the type that its
// volume got, also where that happens while it is opened.
func TestLeaseOfAnotherType(t *testing.T) {
	dev := openedInMemory(t)
	began := time.Now()
	l := &leases{now: func() time.Time { return began }, until: map[int64]time.Time{1: began.Add(time.Hour)}}
	write := func(x *exported) error {
		_, err := exportedDevice{x}.WriteAt(make([]byte, driver.BlockSize), 0)
		return err
	}
	e := &Exports{s: &Service{}}
	opened, opening := &exported{volume: "v", exports: e}, &exported{volume: "v", exports: e}
	opened.permit(dev, false, l, nil)
	if err := write(opened); err != nil {
		t.Errorf("no lease is needed, and %v", err)
	}
	opened.need([]int64{2})
	opening.need([]int64{2})
	opening.permit(dev, false, l, nil)
	for name, x := range map[string]*exported{"open": opened, "being opened": opening} {
		if err := write(x); !block.Is(err, block.Unavailable) || x.entitled() == nil {
			t.Errorf("an export that was %s writes without the lease: %v", name, err)
		}
		x.need([]int64{1})
		if err := write(x); err != nil {
			t.Errorf("the lease is held, and %v", err)
		}
	}
}
