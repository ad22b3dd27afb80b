package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/replication"
)

// createElsewhere is act 3: a snapshot becomes a volume in kilo1.
func (d *demo) createElsewhere(ctx context.Context) error {
	d.chapter(3, "A snapshot, replicated, becomes a volume in kilo1")
	s, err := d.login(ctx, "mitaka1", alice)
	if err != nil {
		return err
	}
	snap, err := s.CreateSnapshot(ctx, client.NewSnapshot{VolumeID: d.volume.ID, Name: "before-the-storm"})
	if err != nil {
		return err
	}
	if snap, err = s.WaitSnapshot(ctx, snap.ID, "available"); err != nil {
		return err
	}
	d.did("snapshot %s (%s) is available", *snap.Name, snap.ID)
	k, err := d.kvol(ctx, "mitaka1")
	if err != nil {
		return err
	}
	backups, err := k.List(ctx, "mitaka1", typeMitaka1)
	if err != nil {
		return err
	}
	for _, b := range backups {
		d.did("list: seq %d: backup zone %s, %s at %s:/%s", b.Seq, b.ZoneID, b.SVMName, b.SVMIP, b.Name)
	}
	if err := d.awaitPoint(ctx, "kilo1", snap.ID); err != nil {
		return err
	}
	details, err := k.Show(ctx, "mitaka1", typeMitaka1, "kilo1")
	if err != nil {
		return err
	}
	for _, b := range details {
		d.did("show: %s (%s) -> %s (%s): %s", b.SrcPath, b.SrcSVMName, b.DstPath, b.DstSVMName, b.Status)
	}
	rowkey, err := k.Create(ctx, client.Elsewhere{SrcZone: "mitaka1", SrcType: typeMitaka1, Snapshot: snap.ID,
		DstZone: "kilo1", DstProject: d.t.Users[alice].ProjectID, DstType: typeKilo1})
	if err != nil {
		return err
	}
	job, err := k.Wait(ctx, "create", rowkey, nil)
	if err != nil {
		return err
	}
	d.did("create %d: %s, %s: volume %s in kilo1", rowkey, job.Status, job.ResultMsg, *job.NewVolumeID)
	return d.compareCopy(ctx, *job.NewVolumeID)
}

func (d *demo) kvol(ctx context.Context, zone string) (*client.Kvol, error) {
	return client.KvolLogin(ctx, d.t.zone(zone).URL, d.t.KvolUser, d.t.KvolPass)
}

// awaitPoint follows the replication until a point is committed in a zone.
func (d *demo) awaitPoint(ctx context.Context, zone, point string) error {
	s, err := d.login(ctx, zone, admin)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = client.Poll(ctx, 50*time.Millisecond, func() (bool, error) {
		replicas, err := s.ReplicasOf(ctx, "mitaka1", d.volume.ID)
		if client.IsStatus(err, 404) {
			return false, nil
		}
		for _, r := range replicas {
			for _, p := range r.Points {
				if p.ID == point {
					d.did("the snapshot is a recovery point in %s: %s, root hash %.16s...", zone, size(p.Size), p.Root)
					return true, nil
				}
			}
		}
		return false, err
	})
	if err != nil {
		return fmt.Errorf("snapshot %s did not become a recovery point in %s: %w", point, zone, err)
	}
	return nil
}

func (d *demo) compareCopy(ctx context.Context, id string) error {
	s, err := d.login(ctx, "kilo1", alice)
	if err != nil {
		return err
	}
	return d.attached(ctx, s, id, func(c *nbd.Conn) error {
		h := sha256.New()
		err := pieces(c, func(_ int64, p []byte) error { _, err := h.Write(p); return err })
		if err != nil {
			return err
		}
		want, err := d.written()
		if err != nil {
			return err
		}
		got := fmt.Sprintf("%x", h.Sum(nil))
		if err := d.compare("the volume made from the snapshot", got == want, "SHA-256 %.16s... of %s",
			got, size(c.Size())); err != nil {
			return err
		}
		err = checkTree(d.o.Dir, c, d.files)
		return d.compare("its file tree", err == nil, "%d files%s", len(d.files), reason(err))
	})
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// loseZone is act 4: mitaka1 dies while it is written to.
func (d *demo) loseZone(ctx context.Context) error {
	d.chapter(4, "mitaka1 dies while it is written to; the volume is recovered in kilo1")
	s, err := d.login(ctx, "mitaka1", alice)
	if err != nil {
		return err
	}
	c, err := d.attach(ctx, s, d.volume.ID)
	if err != nil {
		return err
	}
	writing, stop := context.WithTimeout(ctx, patience)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.journal.churnUntil(writing, c, d.rnd) }()
	d.did("alice goes on writing: 4 KiB at random places, a flush after every 16")
	if err := d.awaitWrites(ctx, 3000, ended); err != nil {
		return err
	}
	d.zones["mitaka1"].kill()
	killed := d.now()
	delete(d.zones, "mitaka1")
	err = <-ended
	if err == nil {
		return errors.New("writing went on though the zone was killed")
	}
	_ = c.Close() // its peer is gone
	n, _ := d.journal.acknowledged()
	d.did("mitaka1 was ended with SIGKILL after %d acknowledged writes of 4 KiB", n)
	return d.recover(ctx, killed)
}

// awaitWrites waits until the writer has had n writes acknowledged. One that ended
// before has none to come.
func (d *demo) awaitWrites(ctx context.Context, n int, ended <-chan error) error {
	return client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		done, _ := d.journal.acknowledged()
		if done >= n {
			return true, nil
		}
		select {
		case err := <-ended:
			return false, fmt.Errorf("alice's writing ended after %d of %d writes%s", done, n, reason(err))
		default:
			return false, nil
		}
	})
}

func (d *demo) recover(ctx context.Context, killed time.Time) error {
	k, err := d.kvol(ctx, "kilo2") // any zone answers for all
	if err != nil {
		return err
	}
	called := d.now()
	rowkey, err := k.Recovery(ctx, client.Elsewhere{SrcZone: "mitaka1", SrcType: typeMitaka1, Volume: d.volume.ID,
		DstZone: "kilo1", DstProject: d.t.Users[alice].ProjectID, DstType: typeKilo1})
	if err != nil {
		return err
	}
	told := ""
	job, err := k.Wait(ctx, "recovery", rowkey, func(j client.KvolJob) {
		if j.Status != told {
			told = j.Status
			d.did("recovery %d: %s", rowkey, told)
		}
	})
	if err != nil {
		return err
	}
	s, err := d.login(ctx, "kilo1", alice)
	if err != nil {
		return err
	}
	operator, err := d.login(ctx, "kilo1", admin)
	if err != nil {
		return err
	}
	op, err := operator.Operation(ctx, "recovery", rowkey)
	if err != nil {
		return err
	}
	return d.attached(ctx, s, *job.NewVolumeID, func(c *nbd.Conn) error {
		if err := rewrite(c); err != nil {
			return err
		}
		took := d.now().Sub(called)
		d.did("from the call to a writable export: %.0f ms", float64(took.Microseconds())/1000)
		return d.compareRecovered(c, op, killed, took)
	})
}

// rewrite writes what is there already, which shows that it can be written.
func rewrite(c *nbd.Conn) error {
	p := make([]byte, blockSize)
	if _, err := c.ReadAt(p, imageAt); err != nil {
		return err
	}
	_, err := c.WriteAt(p, imageAt)
	return err
}

func (d *demo) compareRecovered(c *nbd.Conn, op client.Operation, killed time.Time, took time.Duration) error {
	var sum replication.Sum
	if err := pieces(c, func(off int64, p []byte) error { sum.Add(off, p); return nil }); err != nil {
		return err
	}
	root := sum.Root(c.Size())
	if err := d.compare("the recovered bytes and the reported point", fmt.Sprintf("%x", root[:]) == op.Point.Root,
		"root hash %.16s... of point %s", op.Point.Root, op.Point.ID); err != nil {
		return err
	}
	err := checkTree(d.o.Dir, c, d.files)
	if err := d.compare("the recovered file tree", err == nil, "%d files%s", len(d.files), reason(err)); err != nil {
		return err
	}
	kept, err := d.journal.prefix(c)
	if err := d.compare("a prefix of the writes, in order", err == nil, "the first %d%s", kept, reason(err)); err != nil {
		return err
	}
	n, last := d.journal.acknowledged()
	lost := max(0, n-kept)
	d.did("lost: %.2f seconds and %s (%d of %d acknowledged writes came after the point)",
		d.journal.lossSince(kept, last).Seconds(), size(int64(lost)*blockSize), lost, n)
	d.did("the point was cut %.2f s before the zone died; recovery took %.0f ms",
		killed.Sub(op.Point.At).Seconds(), float64(took.Microseconds())/1000)
	return nil
}

// zoneReturns is act 5.
func (d *demo) zoneReturns(ctx context.Context) error {
	d.chapter(5, "mitaka1 returns, and knows that its volume lives elsewhere")
	if err := d.startZone(ctx, "mitaka1"); err != nil {
		return err
	}
	if err := d.t.save(); err != nil {
		return err
	}
	s, err := d.login(ctx, "mitaka1", alice)
	if err != nil {
		return err
	}
	v, err := s.Volume(ctx, d.volume.ID)
	if err != nil {
		return err
	}
	status := ""
	if v.ReplicationStatus != nil {
		status = *v.ReplicationStatus
	}
	err = d.compare("the returned zone knows", status == block.FailedOver, "replication_status %q", status)
	if err != nil {
		return err
	}
	err = s.VolumeAction(ctx, v.ID, "os-extend", map[string]any{"new_size": volumeGiB + 1}, nil)
	if err := d.compare("it refuses to change the volume", err != nil && strings.Contains(err.Error(), "kilo1"),
		"%v", err); err != nil {
		return err
	}
	info, err := s.Connect(ctx, v.ID, connector)
	if err != nil {
		return err
	}
	c, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.WriteAt(make([]byte, blockSize), churnAt)
	return d.compare("it refuses writes from hosts", c.ReadOnly() && err != nil, "read-only export: %v", err)
}
