package rbd

import (
	"context"
	"io"
	"strings"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// calls are what the driver asks of images most often, and waits for no longer than
// for a few answers of the cluster. The rbd command carries them out, or in a build
// with the tag ceph, librbd in this process. Errors are those of Driver.run.
type calls interface {
	info(ctx context.Context, id block.VolumeID) (image, error)
	names(ctx context.Context) ([]string, error)                     // of the pool's images, those of others too
	images(ctx context.Context) ([]listed, error)                    // with their sizes, for which each is opened
	snaps(ctx context.Context, id block.VolumeID) ([]snap, error)    // in any order
	create(ctx context.Context, id block.VolumeID, size int64) error // fails with EEXIST
	resize(ctx context.Context, id block.VolumeID, size int64) error
	clone(ctx context.Context, from driver.SnapshotRef, name string) error // fails with EEXIST
	createSnap(ctx context.Context, ref driver.SnapshotRef) error          // fails with EEXIST
	removeSnap(ctx context.Context, ref driver.SnapshotRef) error
	// diff gives what differs between a snapshot, or nothing if from is "", and a
	// later one, or the image as it is if to.Name is "", up to size.
	diff(ctx context.Context, from block.PointID, to driver.SnapshotRef, whole bool, size int64) ([]driver.Extent, error)
	// close lets go of the cluster. What is under way fails or ends.
	close()
}

// listed is an image as `rbd ls --long` shows it.
type listed struct {
	Image    string `json:"image"`
	Snapshot string `json:"snapshot"` // "" for the image itself
	Size     int64  `json:"size"`
}

// commands are calls by the rbd command, a process for each.
type commands struct{ d *Driver }

func (c commands) info(ctx context.Context, id block.VolumeID) (i image, err error) {
	err = c.d.runJSON(ctx, &i, "info", c.d.spec(id))
	return i, err
}

func (c commands) names(ctx context.Context) (all []string, err error) {
	out, err := c.d.runFor(ctx, c.d.rbd("ls", "--format", "json", c.d.Pool()), longest)
	if err != nil {
		return nil, err
	}
	return all, decode(out, &all)
}

// images has to do with a command that leaves out images that it can't open, and fails
// where the last is such: one that was removed meanwhile, or half of which is there.
func (c commands) images(ctx context.Context) (all []listed, err error) {
	out, err := c.d.runFor(ctx, c.d.rbd("ls", "--long", "--format", "json", c.d.Pool()), longest)
	if err == nil {
		return all, decode(out, &all)
	}
	if !block.Is(err, block.NotFound) {
		return nil, err
	}
	if decode(out, &all) != nil {
		all = nil // it said nothing
	}
	names, err := c.names(ctx) // fails too where there is no pool
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, i := range all {
		there[i.Image] = true
	}
	for _, name := range names {
		id, ours := strings.CutPrefix(name, imagePrefix)
		if !ours || there[name] {
			continue
		}
		i, err := c.info(ctx, block.VolumeID(id))
		switch {
		case err == nil:
			all = append(all, listed{Image: name, Size: i.Size})
		case !block.Is(err, block.NotFound):
			return nil, err
		}
	}
	return all, nil
}

func (c commands) snaps(ctx context.Context, id block.VolumeID) (all []snap, err error) {
	err = c.d.runJSON(ctx, &all, "snap", "ls", c.d.spec(id))
	return all, err
}

func (c commands) create(ctx context.Context, id block.VolumeID, size int64) error {
	_, err := c.d.run(ctx, c.d.rbd("create", "--size", inBytes(size), c.d.spec(id)))
	return err
}

func (c commands) resize(ctx context.Context, id block.VolumeID, size int64) error {
	_, err := c.d.run(ctx, c.d.rbd("resize", "--no-progress", "--size", inBytes(size), c.d.spec(id)))
	return err
}

func (c commands) clone(ctx context.Context, from driver.SnapshotRef, name string) error {
	_, err := c.d.run(ctx, c.d.rbd("clone", "--rbd-default-clone-format", "2", c.d.snapSpec(from), c.d.Pool()+"/"+name))
	return err
}

func (c commands) createSnap(ctx context.Context, ref driver.SnapshotRef) error {
	_, err := c.d.run(ctx, c.d.rbd("snap", "create", "--no-progress", c.d.snapSpec(ref)))
	return err
}

func (c commands) removeSnap(ctx context.Context, ref driver.SnapshotRef) error {
	_, err := c.d.run(ctx, c.d.rbd("snap", "rm", "--no-progress", c.d.snapSpec(ref)))
	return err
}

func (c commands) diff(
	ctx context.Context, from block.PointID, to driver.SnapshotRef, whole bool, size int64,
) ([]driver.Extent, error) {
	spec := c.d.spec(to.Volume)
	if to.Name != "" {
		spec = c.d.snapSpec(to)
	}
	args := []string{"diff", spec}
	if from != "" {
		args = append(args, "--from-snap", string(from))
	}
	if whole {
		args = append(args, "--whole-object")
	}
	printed, out := io.Pipe()
	type answer struct {
		found []driver.Extent
		err   error
	}
	read := make(chan answer, 1)
	go func() { // ends with the command
		found, err := parseDiff(printed, size)
		_, _ = io.Copy(io.Discard, printed) // what follows what could not be read
		read <- answer{found, err}
	}()
	err := c.d.runTo(ctx, c.d.rbd(append(args, "--format", "json")...), longest, out)
	out.Close()
	got := <-read
	if err != nil {
		return nil, err
	}
	return got.found, got.err
}

func (c commands) close() {}
