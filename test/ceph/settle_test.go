package ceph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client"
)

// settle looks at what is left when everything is well again and nothing is written
// any more: all that was flushed, a replica that is a point of the source, nothing
// under way, and in the pools what the catalogs name and nothing else. At last the
// volume moves to the other zone, and is there what it was.
func (s *storm) settle() {
	s.t.Helper()
	content := s.read(s.left, s.volume)
	if _, err := s.ledger.Verify(content, time.Now()); err != nil {
		s.t.Fatalf("what the host was told of is not there: %v", err)
	}
	root := rootOf(content)
	s.replicated(root)
	if s.long {
		s.verify()
	}
	for _, z := range []*stormZone{s.left, s.right} {
		s.await("nothing is left in zone "+z.Name, func(ctx context.Context) error { return z.atRest(ctx, root) })
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var f client.Failover
	s.await("a planned failover begins", func(ctx context.Context) (err error) {
		f, err = s.left.alice.Failover(ctx, s.volume, client.FailoverTo{Destination: "right"})
		return err
	})
	f, err := s.left.alice.WaitFailover(ctx, f.ID, nil)
	if err != nil || f.Status != "success" || f.Point == nil || f.Point.Root != root {
		s.t.Fatalf("a planned failover: %v; %+v", err, f)
	}
	if got := s.read(s.right, f.NewVolume); !bytes.Equal(got, content) {
		s.t.Error("the volume is not in its new zone what it was in the old one")
	}
	for _, z := range []*stormZone{s.left, s.right} {
		z.Signal(s.t, syscall.SIGTERM)
		select {
		case <-z.Ended():
		case <-ctx.Done():
			s.t.Fatalf("the process of %s does not end", z.Name)
		}
		if err := z.Exit(); err != nil {
			s.t.Errorf("the process of %s ended with %v", z.Name, err)
		}
	}
}

// verify has the zone with the replica read all of it as it lies in the store, which
// takes long.
func (s *storm) verify() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	op, err := s.right.root.Verify(ctx, client.Verify{Zone: "left", Volume: s.volume})
	if err == nil {
		op, err = s.right.root.WaitDurable(ctx, op.ID, nil)
	}
	if err != nil {
		s.t.Fatalf("the replica is not what it should be: %v; %+v", err, op)
	}
}

// atRest is an error while something is under way in a zone, or there is something
// in its pool that the catalog does not name.
func (z *stormZone) atRest(ctx context.Context, root string) error {
	d, err := z.root.Doctor(ctx, false)
	if err != nil {
		return err
	}
	if len(d.Findings) > 0 || d.LeftOut > 0 {
		return fmt.Errorf("the doctor finds %+v", d)
	}
	o := catalog.Options{URL: z.database}
	if o.URL == "" {
		o.Path = filepath.Join(z.dir, "data", "catalog.db")
	}
	c, err := catalog.Open(ctx, o)
	if err != nil {
		return err
	}
	err = c.View(ctx, func(tx *catalog.Tx) error {
		if err := idle(tx, root); err != nil {
			return err
		}
		return z.named(ctx, tx)
	})
	return errors.Join(err, c.Close())
}

// idle is an error while a catalog speaks of what ends by itself, or of an error.
func idle(tx *catalog.Tx, root string) error {
	at, open, err := tx.NextJobAt()
	if err != nil || open {
		return errors.Join(err, fmt.Errorf("a job is due at %v", at))
	}
	volumes, err := tx.Volumes(block.ListQuery{Limit: -1})
	for _, v := range volumes {
		if v.Status != block.VolumeAvailable || v.Switching != "" || v.Migrating() {
			return fmt.Errorf("volume %s is %s", v.ID, v.Status)
		}
	}
	if err != nil {
		return err
	}
	snapshots, err := tx.Snapshots(block.ListQuery{Limit: -1})
	if err != nil || len(snapshots) > 0 {
		return errors.Join(err, fmt.Errorf("snapshots that nobody made: %+v", snapshots))
	}
	replicas, err := tx.Replicas("")
	for _, r := range replicas {
		if r.Pending != nil || !r.DeletedAt.IsZero() || fmt.Sprintf("%x", r.Newest.Root[:]) != root {
			return fmt.Errorf("the replica is %+v", r)
		}
	}
	return err
}

// named is an error where a zone's namespace has an image or a snapshot that the
// catalog does not name, or anything in its trash.
func (z *stormZone) named(ctx context.Context, tx *catalog.Tx) error {
	var trash []any
	var images []string
	pool := "rbd/" + z.namespace
	if err := errors.Join(z.rbd(ctx, &trash, "trash", "ls", "--all", pool), z.rbd(ctx, &images, "ls", pool)); err != nil {
		return err
	}
	if len(trash) > 0 {
		return fmt.Errorf("the trash has %v", trash)
	}
	for _, image := range images {
		if image == "owner-of-kvol" { // says whose the namespace is, for as long as there is one
			continue
		}
		id, ours := strings.CutPrefix(image, "kvol-")
		points, err := pointsOf(tx, block.VolumeID(id))
		if err != nil || !ours {
			return fmt.Errorf("image %s is nobody's: %w", image, err)
		}
		var snapshots []struct{ Name string }
		if err := z.rbd(ctx, &snapshots, "snap", "ls", "--all", pool+"/"+image); err != nil {
			return err
		}
		for _, sn := range snapshots {
			this := catalog.Cut{Volume: block.VolumeID(id), Point: block.PointID(sn.Name)}
			known, err := tx.KnownSnapshots([]catalog.Cut{this})
			if err != nil || !known[this] && !slices.Contains(points, block.PointID(sn.Name)) {
				return fmt.Errorf("snapshot %s of image %s is nobody's: %w", sn.Name, image, err)
			}
		}
	}
	return nil
}

// pointsOf are the points of a replica; NotFound where there is neither a volume nor
// a replica of that id.
func pointsOf(tx *catalog.Tx, id block.VolumeID) (names []block.PointID, err error) {
	if _, err := tx.Volume(id); !block.Is(err, block.NotFound) {
		return nil, err
	}
	if _, err := tx.Replica(id); err != nil {
		return nil, err
	}
	points, err := tx.Points(id)
	for _, p := range points {
		names = append(names, p.ID)
	}
	return names, err
}

// rbd runs a command on the zone's cluster, and reads its JSON.
func (z *stormZone) rbd(ctx context.Context, into any, args ...string) error {
	args = append([]string{"-c", z.cluster.Conf(), "--format", "json"}, args...)
	out, err := exec.CommandContext(ctx, "rbd", args...).Output()
	if err != nil {
		return fmt.Errorf("rbd %q: %w", args, err)
	}
	return json.Unmarshal(out, into)
}
