package control

import (
	"testing"
	"testing/synctest"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// TestGivingBackWaitsForTheExchange: the last holder gives a device back while
// another one is put in its place. It is that one that is closed then.
func TestGivingBackWaitsForTheExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := mem.New(mem.Options{}), mem.New(mem.Options{})
		for _, store := range []driver.Driver{from, to} {
			if err := store.CreateVolume(t.Context(), "v", block.GiB); err != nil {
				t.Fatal(err)
			}
		}
		set, err := driver.NewSet(map[string]driver.Driver{"s": from}, []block.Backend{{Name: "b", Store: "s"}})
		if err != nil {
			t.Fatal(err)
		}
		d := newDevices(set)
		_, giveBack, err := d.borrow(t.Context(), "b", "v")
		if err != nil {
			t.Fatal(err)
		}
		gaveBack := make(chan error, 1)
		done, err := d.exchange("v", 1, func(bool) (driver.Device, error) {
			go func() { gaveBack <- giveBack() }()
			synctest.Wait() // until it waits, or has closed what is copied here
			return to.OpenVolume(t.Context(), "v")
		})
		if !done || err != nil {
			t.Errorf("exchanged: %v, %v", done, err)
		}
		if err := <-gaveBack; err != nil {
			t.Error(err)
		}
		if len(d.open) != 0 {
			t.Errorf("%d devices are open that nobody holds", len(d.open))
		}
		for name, store := range map[string]driver.Driver{"old": from, "new": to} { // a store opens a volume once
			dev, err := store.OpenVolume(t.Context(), "v")
			if err != nil {
				t.Errorf("the %s device was not closed: %v", name, err)
				continue
			}
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
