package rbd_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/driver"
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
	next := another(t, c, old, rbd.Options{Several: true})
	after := opened(t, next, id)
	want := write(t, after, 2)
	_, err := before.WriteAt(make([]byte, kib4), 0)
	unavailable(t, "a write by who had it before", err)
	holds(t, after, want)
	if err := after.Close(); err != nil {
		t.Fatal(err)
	}
	holds(t, opened(t, next, id), want) // it is no stranger to itself
}

// readersStay: who reads a snapshot is a client of the image, and ours.
func readersStay(t *testing.T, c *ceph.Cluster) {
	o := rbd.Options{Several: true, Hosts: &rbd.Hosts{User: "nova"}}
	d := open(t, c, o)
	id := volume(t, d, 4)
	if err := d.Lend(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	dev := opened(t, d, id)
	want := write(t, dev, 5)
	ref := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
	if err := d.CreateSnapshot(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	var readers []driver.Reader
	for range 2 {
		r, err := d.OpenSnapshot(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		readers = append(readers, r)
	}
	read := func() {
		t.Helper()
		for _, r := range readers {
			got := make([]byte, kib4)
			if _, err := r.ReadAt(got, 0); err != nil || string(got) != string(want) {
				t.Fatalf("a reader reads %x..., %v", got[:4], err)
			}
		}
	}
	read()
	if who, err := d.Borrowers(t.Context(), id); err != nil || len(who) > 0 {
		t.Errorf("nobody borrowed it: %+v, %v", who, err)
	}
	read()
	if err := d.Withhold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	read()
	later := driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())}
	if err := d.CreateSnapshot(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	read()
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Reclaim(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	write(t, opened(t, d, id), 6) // it succeeds whoever had it, only now
	read()
	if err := d.DeleteSnapshot(t.Context(), ref); !block.Is(err, block.Conflict) {
		t.Errorf("a snapshot that is read is removed: %v", err)
	}
	for _, r := range readers {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.DeleteSnapshot(t.Context(), ref); err != nil {
		t.Error(err)
	}
}

// locked tells whether the lock that keeps hosts out is on an image.
func locked(t *testing.T, c *ceph.Cluster, image string) bool {
	t.Helper()
	return strings.Contains(c.Run(t, "rbd", "lock", "ls", image), "kvol")
}

// lockComesBack: a volume that is withheld has its lock again when the request for
// which it was taken off ended meanwhile, and when a process did.
func lockComesBack(t *testing.T, c *ceph.Cluster) {
	d := open(t, c, rbd.Options{Hosts: &rbd.Hosts{User: "nova"}})
	id := volume(t, d, 4)
	image := d.Pool() + "/kvol-" + string(id)
	if err := d.Withhold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- d.CreateSnapshot(ctx, driver.SnapshotRef{Volume: id, Name: block.PointID(block.NewID())})
	}()
	for ended := false; !ended; {
		select {
		case err := <-done:
			t.Logf("the snapshot: %v", err)
			ended = true
		default:
			if !locked(t, c, image) {
				cancel()
			}
		}
	}
	if !locked(t, c, image) {
		t.Error("the lock stays off when the request ends")
	}
	who := strings.Fields(strings.TrimSpace(c.Run(t, "rbd", "lock", "ls", image)))
	var locker string
	for _, w := range who {
		if strings.HasPrefix(w, "client.") {
			locker = w
		}
	}
	c.Run(t, "rbd", "lock", "rm", image, "kvol", locker)
	o := rbd.Options{Hosts: &rbd.Hosts{User: "nova"}}
	o.InTurn = func(context.Context, func() error) error { return block.Errorf(block.Unavailable, "not its turn") }
	if _, err := another(t, c, d, o).Capacity(t.Context()); err != nil {
		t.Fatal(err)
	}
	if locked(t, c, image) {
		t.Error("a process whose turn it is not puts the lock on")
	}
	o.InTurn = nil
	another(t, c, d, o)
	if !locked(t, c, image) {
		t.Error("the next process does not put the lock on again")
	}
}

// cutAnew: who was taken off the blocklist by hand is cut off once more.
func cutAnew(t *testing.T, c *ceph.Cluster) {
	var ahead atomic.Int64
	d := open(t, c, rbd.Options{Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	const address = "192.0.2.7:0/1234"
	who := []driver.Borrower{{Address: address, Host: "192.0.2.7"}}
	for range 2 {
		if err := d.Cut(t.Context(), "v", who); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(c.Run(t, "ceph", "osd", "blocklist", "ls"), address) {
			t.Error("it is not on the blocklist")
		}
		c.Run(t, "ceph", "osd", "blocklist", "rm", address)
		ahead.Add(int64(2 * time.Minute))
	}
}
