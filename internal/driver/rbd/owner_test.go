package rbd_test

import (
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// owner: a namespace is of the store that opened it first, whatever processes open it
// later, until a person says otherwise.
func owner(t *testing.T, c *ceph.Cluster) {
	o := rbd.Options{Conf: c.Conf(), Namespace: block.NewID(), Owner: "main of zone mitaka1"}
	c.Run(t, "rbd", "namespace", "create", "rbd/"+o.Namespace)
	with := func(owner string) error {
		t.Helper()
		o.Owner = owner
		d, err := rbd.Open(t.Context(), o)
		if err != nil {
			return err
		}
		for v, err := range d.Volumes(t.Context()) {
			t.Errorf("a volume of nobody's: %+v, %v", v, err)
		}
		return d.Close()
	}
	for range 2 {
		if err := with("main of zone mitaka1"); err != nil {
			t.Fatal(err)
		}
	}
	const image = "owner-of-kvol"
	if err := with("main of zone kilo1"); !block.Is(err, block.Conflict) ||
		!strings.Contains(err.Error(), "belong to store main of zone mitaka1, and this is main of zone kilo1") {
		t.Errorf("another zone's store: %v", err)
	}
	if err := with(""); err != nil {
		t.Errorf("one that does not say whose it is: %v", err)
	}
	c.Run(t, "rbd", "rm", "--no-progress", "rbd/"+o.Namespace+"/"+image)
	if err := with("main of zone kilo1"); err != nil {
		t.Errorf("another zone's store in its place: %v", err)
	}
	c.Run(t, "rbd", "image-meta", "remove", "rbd/"+o.Namespace+"/"+image, "store") // as where who claimed it was killed
	if err := with("main of zone kilo2"); err != nil {
		t.Errorf("one that was claimed by half: %v", err)
	}
}
