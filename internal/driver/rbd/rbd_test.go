package rbd_test

import (
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// open opens an empty store: a namespace of its own.
func open(t *testing.T, c *ceph.Cluster, o rbd.Options) *rbd.Driver {
	t.Helper()
	o.Conf, o.Namespace = c.Conf(), block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+o.Namespace)
	d, err := rbd.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestOnCeph runs all that needs a cluster on one.
func TestOnCeph(t *testing.T) {
	c := ceph.Start(t)
	t.Run("Driver", func(t *testing.T) {
		drivertest.RunCostly(t, func(t *testing.T) driver.Driver { return open(t, c, rbd.Options{}) })
	})
	t.Run("Full", func(t *testing.T) { fullCluster(t, c) })
	t.Run("Scattered changes", func(t *testing.T) { scatteredChanges(t, c) })
	t.Run("Reopened", func(t *testing.T) { reopened(t, c) })
	t.Run("Client killed", func(t *testing.T) { clientKilled(t, c) })
	t.Run("Client on the blocklist", func(t *testing.T) { clientOnBlocklist(t, c) })
	t.Run("Client hangs", func(t *testing.T) { clientHangs(t, c) })
	t.Run("Keyring away", func(t *testing.T) { keyringAway(t, c) })
	t.Run("Least rights", func(t *testing.T) { leastRights(t, c) })
	t.Run("Owner", func(t *testing.T) { owner(t, c) })
	t.Run("Nothing is left", func(t *testing.T) { nothingIsLeft(t, c) })
	t.Run("Clone cut short", func(t *testing.T) { cloneCutShort(t, c) })
	t.Run("Listed beside wreckage", func(t *testing.T) { listedBesideWreckage(t, c) })
	t.Run("Trash that stays", func(t *testing.T) { trashThatStays(t, c) })
	t.Run("Trash that stays for a while", func(t *testing.T) { trashThatStaysForAWhile(t, c) })
	t.Run("Half an image", func(t *testing.T) { halfAnImage(t, c) })
	t.Run("Nothing is remembered", func(t *testing.T) { nothingIsRemembered(t, c) })
	t.Run("Group cut short", func(t *testing.T) { groupCutShort(t, c) })
	t.Run("Used by hosts", func(t *testing.T) { usedByHosts(t, c) })
	t.Run("Changes by hosts", func(t *testing.T) { changesByHosts(t, c) })
	t.Run("Hosts cut off", func(t *testing.T) { hostsCutOff(t, c) })
	t.Run("Hosts withheld", func(t *testing.T) { hostsWithheld(t, c) })
	t.Run("Succeeded", func(t *testing.T) { succeeded(t, c) })
	t.Run("Readers stay", func(t *testing.T) { readersStay(t, c) })
	t.Run("Lock comes back", func(t *testing.T) { lockComesBack(t, c) })
	t.Run("Cut anew", func(t *testing.T) { cutAnew(t, c) })
	t.Run("Cluster hangs", func(t *testing.T) { clusterHangs(t, c) })
}

// reopened plays a random history on a store that is closed and opened again.
func reopened(t *testing.T, c *ceph.Cluster) {
	namespace := block.NewID()
	c.Run(t, "rbd", "namespace", "create", "rbd/"+namespace)
	drivertest.RunReopenCostly(t, func(t *testing.T, _ string) driver.Driver {
		d, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Namespace: namespace})
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}
