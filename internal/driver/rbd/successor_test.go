package rbd_test

import (
	"strings"
	"testing"

	"kvol/internal/driver/rbd"
	"kvol/test/ceph"
)

// succeeded: a process that opens a volume which another one has open cuts that one
// off, whatever it still does, and keeps what it writes itself.
func succeeded(t *testing.T, c *ceph.Cluster) {
	old := open(t, c, rbd.Options{Several: true})
	id := volume(t, old, 4)
	before := opened(t, old, id)
	write(t, before, 1)
	_, namespace, _ := strings.Cut(old.Pool(), "/")
	next, err := rbd.Open(t.Context(), rbd.Options{Conf: c.Conf(), Namespace: namespace, Several: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	})
	after := opened(t, next, id)
	want := write(t, after, 2)
	_, err = before.WriteAt(make([]byte, kib4), 0)
	unavailable(t, "a write by who had it before", err)
	holds(t, after, want)
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
	holds(t, opened(t, next, id), want) // it is no stranger to itself
}
