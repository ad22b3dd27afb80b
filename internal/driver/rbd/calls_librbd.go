//go:build ceph

package rbd

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sync/errgroup"

	"kvol/internal/block"
	"kvol/internal/driver"
)

func newCalls(d *Driver) calls {
	return &library{commands: commands{d}, slots: make(chan struct{}, maxCalls)}
}

// limit is how long a call may take, as a command may.
func (l *library) limit() time.Duration { return 3*l.commands.d.o.Timeout + killAfter }

func (l *library) info(ctx context.Context, id block.VolumeID) (image, error) {
	do := func(_ context.Context, io *rados.IOContext) (i image, err error) {
		err = reading(io, imageName(id), "", func(r *rbd.Image) error {
			stat, err := r.Stat()
			if err != nil {
				return err
			}
			i.Size, i.Objects, i.ObjectSize = int64(stat.Size), int64(stat.Num_objs), int64(stat.Obj_size)
			return i.relate(r)
		})
		return i, err
	}
	return ask(ctx, l, asked[image]{"info", l.limit(), do, func() (image, error) { return l.commands.info(ctx, id) }})
}

// relate notes what an image stands on, and whether it is mirrored.
func (i *image) relate(r *rbd.Image) error {
	switch parent, err := r.GetParent(); {
	case err == nil:
		i.Parent = &struct {
			Image string `json:"image"`
		}{parent.Image.ImageName}
	case !errors.Is(err, rbd.ErrNotFound):
		return err
	}
	mirrored, err := r.GetMirrorImageInfo()
	if err != nil {
		return err
	}
	if mirrored.State != rbd.MirrorImageDisabled {
		i.Mirroring = &struct {
			Primary bool `json:"primary"`
		}{mirrored.Primary}
	}
	return nil
}

// opensAtOnce is how many images a list asks for their sizes at once, as the rbd
// command does (rbd_concurrent_management_ops).
const opensAtOnce = 10

func (l *library) names(ctx context.Context) ([]string, error) {
	do := func(_ context.Context, io *rados.IOContext) ([]string, error) { return rbd.GetImageNames(io) }
	return ask(ctx, l, asked[[]string]{"ls", longest, do, func() ([]string, error) { return l.commands.names(ctx) }})
}

func (l *library) images(ctx context.Context) ([]listed, error) {
	do := func(ctx context.Context, io *rados.IOContext) ([]listed, error) {
		names, err := rbd.GetImageNames(io)
		if err != nil {
			return nil, err
		}
		all := make([]listed, len(names))
		var g errgroup.Group
		g.SetLimit(opensAtOnce)
		for i, name := range names {
			g.Go(func() error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				err := reading(io, name, "", func(r *rbd.Image) error {
					size, err := r.GetSize()
					all[i] = listed{Image: name, Size: int64(size)}
					return err
				})
				if errors.Is(err, rbd.ErrNotFound) {
					return nil // it was removed meanwhile
				}
				return err
			})
		}
		err = g.Wait()
		return slices.DeleteFunc(all, func(i listed) bool { return i.Image == "" }), err
	}
	return ask(ctx, l, asked[[]listed]{"list", longest, do, func() ([]listed, error) { return l.commands.images(ctx) }})
}

func (l *library) snaps(ctx context.Context, id block.VolumeID) ([]snap, error) {
	do := func(_ context.Context, io *rados.IOContext) (all []snap, err error) {
		all = []snap{}
		err = reading(io, imageName(id), "", func(r *rbd.Image) error {
			found, err := r.GetSnapshotNames()
			if err != nil {
				return err
			}
			for _, s := range found {
				// Those in the trash, and rbd-mirror's, are no snapshots of ours.
				kind, err := r.GetSnapNamespaceType(s.Id)
				if err != nil {
					return err
				}
				if kind == rbd.SnapNamespaceTypeUser {
					all = append(all, snap{ID: int64(s.Id), Name: s.Name, Size: int64(s.Size)})
				}
			}
			return nil
		})
		return all, err
	}
	return ask(
		ctx,
		l,
		asked[[]snap]{"snap ls", l.limit(), do, func() ([]snap, error) { return l.commands.snaps(ctx, id) }},
	)
}

func (l *library) create(ctx context.Context, id block.VolumeID, size int64) error {
	return l.change(ctx, "create", func(ctx context.Context, io *rados.IOContext) error {
		options := rbd.NewRbdImageOptions() // those of the configuration
		defer options.Destroy()
		return rbd.CreateImage(io, imageName(id), uint64(size), options)
	}, func() error { return l.commands.create(ctx, id, size) })
}

func (l *library) resize(ctx context.Context, id block.VolumeID, size int64) error {
	return l.change(ctx, "resize", func(ctx context.Context, io *rados.IOContext) error {
		return changingImage(ctx, io, imageName(id), func(r *rbd.Image) error {
			const shrink = false // somebody may have been faster with a larger size
			return r.Resize2(uint64(size), shrink, func(uint64, uint64, any) int { return 0 }, nil)
		})
	}, func() error { return l.commands.resize(ctx, id, size) })
}

func (l *library) clone(ctx context.Context, from driver.SnapshotRef, name string) error {
	return l.change(ctx, "clone", func(ctx context.Context, io *rados.IOContext) error {
		options := rbd.NewRbdImageOptions()
		defer options.Destroy()
		if err := options.SetUint64(rbd.ImageOptionCloneFormat, 2); err != nil {
			return err
		}
		return rbd.CloneImage(io, imageName(from.Volume), string(from.Name), io, name, options)
	}, func() error { return l.commands.clone(ctx, from, name) })
}

func (l *library) createSnap(ctx context.Context, ref driver.SnapshotRef) error {
	return l.change(ctx, "snap create", func(ctx context.Context, io *rados.IOContext) error {
		return changingImage(ctx, io, imageName(ref.Volume), func(r *rbd.Image) error {
			_, err := r.CreateSnapshot(string(ref.Name))
			return err
		})
	}, func() error { return l.commands.createSnap(ctx, ref) })
}

func (l *library) removeSnap(ctx context.Context, ref driver.SnapshotRef) error {
	return l.change(ctx, "snap rm", func(ctx context.Context, io *rados.IOContext) error {
		return changingImage(ctx, io, imageName(ref.Volume), func(r *rbd.Image) error {
			return r.GetSnapshot(string(ref.Name)).Remove()
		})
	}, func() error { return l.commands.removeSnap(ctx, ref) })
}

func (l *library) diff(
	ctx context.Context, from block.PointID, to driver.SnapshotRef, whole bool, size int64,
) ([]driver.Extent, error) {
	do := func(ctx context.Context, io *rados.IOContext) (found []driver.Extent, err error) {
		err = reading(io, imageName(to.Volume), string(to.Name), func(r *rbd.Image) error {
			changes, err := differences(ctx, r, from, whole)
			found = extentsOf(changes, size)
			return err
		})
		return found, err
	}
	return ask(ctx, l, asked[[]driver.Extent]{"diff", longest, do, func() ([]driver.Extent, error) {
		return l.commands.diff(ctx, from, to, whole, size)
	}})
}

// differences asks for what differs from an earlier snapshot in an image that is
// open as it was at the later one.
func differences(ctx context.Context, r *rbd.Image, from block.PointID, whole bool) (all []change, err error) {
	length, err := r.GetSize()
	if err != nil {
		return nil, err
	}
	how := rbd.DisableWholeObject
	if whole {
		how = rbd.EnableWholeObject
	}
	err = r.DiffIterate(rbd.DiffIterateConfig{
		SnapName: string(from), Length: length, IncludeParent: rbd.IncludeParent, WholeObject: how,
		Callback: func(offset, length uint64, exists int, _ any) int {
			if ctx.Err() != nil {
				return -int(syscall.ECANCELED) // it ends there
			}
			c := change{Offset: int64(offset), Length: int64(length), Exists: "true"}
			if exists == 0 {
				c.Exists = "false"
			}
			all = append(all, c)
			return 0
		},
	})
	return all, err
}

// change carries out a call of which nothing but its end is wanted.
func (l *library) change(
	ctx context.Context, what string, do func(context.Context, *rados.IOContext) error, command func() error,
) error {
	_, err := ask(
		ctx,
		l,
		asked[struct{}]{what, l.limit(), func(ctx context.Context, io *rados.IOContext) (struct{}, error) {
			return struct{}{}, do(ctx, io)
		}, func() (struct{}, error) { return struct{}{}, command() }},
	)
	return err
}

// reading opens an image, or a snapshot of it, so that the cluster counts this
// process among no one who can write to it.
func reading(io *rados.IOContext, name, snapshot string, do func(*rbd.Image) error) error {
	r, err := rbd.OpenImageReadOnly(io, name, snapshot)
	if err != nil {
		return err
	}
	err = do(r)
	_ = r.Close() // nothing is lost with it
	return err
}

// changingImage opens an image for a change, which is not begun when nobody waits
// for it any more. When it returns, this process is no client of the image.
func changingImage(ctx context.Context, io *rados.IOContext, name string, do func(*rbd.Image) error) error {
	r, err := rbd.OpenImage(io, name, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	if err = context.Cause(ctx); err == nil {
		err = do(r)
	}
	_ = r.Close() // what was changed is so
	return err
}
