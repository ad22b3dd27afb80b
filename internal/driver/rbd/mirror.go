package rbd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/driver"
)

// momentSaid is what `rbd mirror image snapshot` prints.
var momentSaid = regexp.MustCompile(`(?m)^Snapshot ID: ([0-9]{1,19})$`)

// Mirror implements driver.Mirrorer by a mirror snapshot: its number is the
// moment. An image that stands on another one would need that one in the other
// cluster, too.
func (d *Driver) Mirror(ctx context.Context, id block.VolumeID) (moment uint64, err error) {
	var out []byte
	snapshot := func() error {
		out, err = d.run(ctx, d.rbd("mirror", "image", "snapshot", d.spec(id)))
		return err
	}
	err = d.changing(ctx, id, snapshot)
	if errors.Is(err, syscall.EINVAL) {
		if err := d.beMirrored(ctx, id); err != nil {
			return 0, err
		}
		err = d.changing(ctx, id, snapshot)
	}
	if err != nil {
		return 0, err
	}
	said := momentSaid.FindSubmatch(out)
	if said == nil {
		return 0, block.Errorf(block.Internal, "The storage cluster's answer could not be read: %q", out)
	}
	return strconv.ParseUint(string(said[1]), 10, 64)
}

// beMirrored enables the mirroring of an image.
func (d *Driver) beMirrored(ctx context.Context, id block.VolumeID) error {
	i, err := d.info(ctx, id)
	switch {
	case err != nil:
		return err
	case i.Parent != nil:
		return block.Errorf(
			block.Unsupported,
			"Volume %s stands on another one of the storage cluster, and is not mirrored.",
			id,
		)
	case i.Mirroring != nil && !i.Mirroring.Primary:
		return block.Errorf(
			block.Conflict,
			"The image of volume %s is no primary one for rbd-mirror: somebody demoted it.",
			id,
		)
	}
	err = d.changing(ctx, id, func() error {
		_, err := d.run(ctx, d.rbd("mirror", "image", "enable", d.spec(id), "snapshot"))
		return err
	})
	if errors.Is(err, syscall.EINVAL) {
		err = block.Wrap(block.Unavailable, err, "Pool %s is not set up for mirroring of images.", d.Pool())
	}
	return err
}

// Unmirror implements driver.Mirrorer.
func (d *Driver) Unmirror(ctx context.Context, id block.VolumeID) error {
	i, err := d.info(ctx, id)
	if err != nil || i.Mirroring == nil || !i.Mirroring.Primary {
		if block.Is(err, block.NotFound) {
			return nil
		}
		return err
	}
	return d.changing(ctx, id, func() error {
		_, err := d.run(ctx, d.rbd("mirror", "image", "disable", d.spec(id)))
		return err
	})
}

// mirrorSnap is a snapshot of any kind as `rbd snap ls --all` shows it.
type mirrorSnap struct {
	ID        int64 `json:"id"`
	Namespace struct {
		Type     string `json:"type"`
		State    string `json:"state"`
		Complete bool   `json:"complete"`
		Primary  uint64 `json:"primary_snap_id"`
		Copied   int64  `json:"last_copied_object_number"`
	} `json:"namespace"`
}

// Mirrored implements driver.Mirrorer: it looks for a mirror snapshot that is
// complete, by the number that the other cluster gave it. That an image says
// that it is no primary one is not enough, and neither is a snapshot of ours:
// rbd-mirror makes it before its bytes are there.
func (d *Driver) Mirrored(ctx context.Context, id block.VolumeID, moment uint64) (driver.MirrorState, error) {
	var all []mirrorSnap
	err := d.runJSON(ctx, &all, "snap", "ls", "--all", d.spec(id))
	if block.Is(err, block.NotFound) {
		err = block.Wrap(
			block.NotFound,
			err,
			"There is no copy of volume %s in the storage cluster: does its rbd-mirror run, "+
				"and have pool and namespace the name that they have in the other one?",
			id,
		)
	}
	if err != nil {
		return driver.MirrorState{}, err
	}
	return mirrorState(id, all, moment)
}

func mirrorState(id block.VolumeID, all []mirrorSnap, moment uint64) (s driver.MirrorState, err error) {
	all = slices.DeleteFunc(all, func(s mirrorSnap) bool { return s.Namespace.Type != "mirror" })
	slices.SortFunc(all, func(a, b mirrorSnap) int { return cmp.Compare(a.ID, b.ID) })
	for i, m := range all {
		if i == len(all)-1 && m.Namespace.State != "non-primary" {
			return s, block.Errorf(block.Conflict, "The image of volume %s in the storage cluster is no copy that rbd-mirror "+
				"keeps: it is %s. Somebody promoted or demoted it.", id, m.Namespace.State)
		}
		s.Whole = s.Whole || m.Namespace.Complete && m.Namespace.State == "non-primary" && m.Namespace.Primary >= moment
		s.Far = fmt.Sprint(m.Namespace.Primary, m.Namespace.Copied, m.Namespace.Complete)
	}
	return s, nil
}

// mirroringObject is what every rbd-mirror of a pool's namespace watches, and
// clients with the rights of hosts can't.
const mirroringObject = "rbd_mirroring"

// mirrors are the addresses of the clients that are rbd-mirror daemons, of this
// cluster or a peer, told as librbd tells them (librbd/image/ListWatchersRequest.cc,
// LIST_WATCHERS_FILTER_OUT_MIRROR_INSTANCES).
func (d *Driver) mirrors(ctx context.Context) (map[string]bool, error) {
	limit := seconds(d.o.Timeout)
	args := []string{"--conf", d.o.Conf, "--id", d.o.User, "--client_mount_timeout", limit,
		"--rados_mon_op_timeout", limit, "--rados_osd_op_timeout", limit, "--pool", d.o.Pool}
	if d.o.Namespace != "" {
		args = append(args, "--namespace", d.o.Namespace)
	}
	out, err := d.run(ctx, command{"rados", append(args, "listwatchers", mirroringObject)})
	if err != nil {
		// Its exit status is 1 for all errors.
		if strings.Contains(err.Error(), fmt.Sprintf("/%s: (%d) ", mirroringObject, syscall.ENOENT)) {
			return nil, nil // no image was ever mirrored
		}
		return nil, err
	}
	return parseWatchers(out), nil
}

var watcherSaid = regexp.MustCompile(`(?m)^watcher=([^ ]+) client\.`)

// parseWatchers reads what `rados listwatchers` prints.
func parseWatchers(text []byte) map[string]bool {
	all := map[string]bool{}
	for _, m := range watcherSaid.FindAllSubmatch(text, -1) {
		all[string(m[1])] = true
	}
	return all
}
