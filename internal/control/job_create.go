package control

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/imagehead"
	"kvol/internal/job"
)

var whileCreating = []block.VolumeStatus{block.VolumeCreating, block.VolumeDownloading}

// runCreate makes a volume's bytes. Each step may be repeated: creating and
// cloning what exists changes nothing, and copies write the same bytes again.
func (s *Service) runCreate(ctx context.Context, t *job.Task) error {
	var args createArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), whileCreating...)
	if err != nil {
		return err
	}
	if v.Backend == "" {
		return errNoBackend
	}
	from, err := s.fillNew(ctx, t, v, args)
	if err != nil {
		return s.elsewhere(ctx, t, v, args, err)
	}
	return s.finishCreate(ctx, v.ID, from)
}

// fillNew makes a new volume's bytes on its backend. from is the image that they
// are of, if there is one.
func (s *Service) fillNew(ctx context.Context, t *job.Task, v block.Volume, args createArgs) (from *Image, err error) {
	if err := s.schedule(ctx, v.Backend); err != nil {
		return nil, atBackend(err)
	}
	switch {
	case args.Image != "":
		from, err = s.fillFromImage(ctx, t, v, args)
	case v.SnapshotID != nil:
		err = s.fillFromSnapshot(ctx, t, v)
	case v.SourceVolumeID != nil:
		err = s.fillFromVolume(ctx, t, v)
	default:
		err = s.makeEmpty(ctx, v)
	}
	return from, err
}

func (s *Service) finishCreate(ctx context.Context, id block.VolumeID, from *Image) error {
	err := s.finish(ctx, id, whileCreating, func(tx *catalog.Tx, v block.Volume) error {
		if from != nil {
			v.Bootable, v.ImageMetadata = true, from.metadata()
			if err := tx.UpdateVolume(v); err != nil {
				return err
			}
		}
		if v.SourceVolumeID != nil {
			if err := dropClonePoint(tx, v); err != nil {
				return err
			}
		}
		_, err := tx.MoveVolume(id, block.Done)
		return err
	})
	if err == nil {
		s.changed(id)
	}
	return err
}

func (s *Service) makeEmpty(ctx context.Context, v block.Volume) error {
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	return atBackend(store.CreateVolume(ctx, v.ID, v.Size*block.GiB))
}

func (s *Service) fillFromSnapshot(ctx context.Context, t *job.Task, v block.Volume) error {
	var source block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		sn, err := tx.Snapshot(*v.SnapshotID)
		if err != nil {
			return err
		}
		source, err = tx.Volume(sn.VolumeID)
		return err
	})
	if err != nil {
		return err
	}
	return s.fill(ctx, t, v, source.Backend, driver.SnapshotRef{Volume: source.ID, Name: block.PointID(*v.SnapshotID)})
}

// clonePoint names the internal snapshot that a volume is cloned through. It
// is kept until the volume is available, so that a repeated copy reads the
// same bytes.
func clonePoint(v block.Volume) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: *v.SourceVolumeID, Name: block.PointID(v.ID)}
}

// dropClonePoint deletes it. A source that is gone took it along.
func dropClonePoint(tx *catalog.Tx, v block.Volume) error {
	source, err := tx.Volume(*v.SourceVolumeID)
	if err != nil {
		return ignoring(block.NotFound, err)
	}
	return dropPoint(tx, source.Backend, clonePoint(v))
}

func (s *Service) fillFromVolume(ctx context.Context, t *job.Task, v block.Volume) error {
	var source block.Volume
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		source, err = tx.Volume(*v.SourceVolumeID)
		return err
	})
	if err != nil {
		return err
	}
	store, err := s.backends.Of(source.Backend)
	if err != nil {
		return err
	}
	if err := store.CreateSnapshot(ctx, clonePoint(v)); err != nil {
		return err
	}
	return s.fill(ctx, t, v, source.Backend, clonePoint(v))
}

// fill makes a volume of a snapshot: a clone where both lie on one store, else
// a copy.
func (s *Service) fill(ctx context.Context, t *job.Task, v block.Volume, backend string,
	from driver.SnapshotRef) error {
	source, err := s.backends.Of(backend)
	if err != nil {
		return err
	}
	if s.backends.Shared(backend, v.Backend) {
		return atBackend(source.CloneSnapshot(ctx, v.ID, from, v.Size*block.GiB))
	}
	if err := s.makeEmpty(ctx, v); err != nil {
		return err
	}
	reader, err := source.OpenSnapshot(ctx, from)
	if err != nil {
		return err
	}
	err = s.copyIn(ctx, t, v, reader)
	closing(&err, reader.Close)
	return err
}

func (s *Service) copyIn(ctx context.Context, t *job.Task, v block.Volume, from driver.Reader) (err error) {
	to, giveBack, err := s.fillable(ctx, v)
	if err != nil {
		return err
	}
	defer closing(&err, giveBack)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	each := s.progress(ctx, t, "copying", from.Size(), whileCreating...)
	err = driver.Copy(ctx, to, from, func(done int64) {
		if err := each(done); err != nil {
			stop(err)
		}
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// metadata is what a volume remembers of its image: the core fields of
// cinder/image/glance.py, the image's own properties, and that no signature was
// verified.
func (i Image) metadata() map[string]string {
	m := merged(i.Properties, nil, false)
	m["image_id"], m["signature_verified"] = i.ID, "False"
	for name, text := range map[string]string{"image_name": i.Name, "checksum": i.Checksum,
		"container_format": i.ContainerFormat, "disk_format": i.DiskFormat} {
		if text != "" {
			m[name] = text
		}
	}
	m["min_disk"], m["min_ram"] = strconv.FormatInt(i.MinDisk, 10), strconv.FormatInt(i.MinRAM, 10)
	m["size"] = strconv.FormatInt(i.Size, 10)
	return m
}

// fillFromImage downloads an image into a new volume.
func (s *Service) fillFromImage(ctx context.Context, t *job.Task, v block.Volume, args createArgs) (*Image, error) {
	caller, err := s.caller(v.Project, v.User, args.asker)
	if err != nil {
		return nil, err
	}
	img, err := s.cfg.Images.Find(ctx, caller, args.Image)
	if err != nil {
		return nil, err
	}
	if err := checkImageFits(img, v.Size); err != nil {
		return nil, err
	}
	err = s.finish(ctx, v.ID, whileCreating, func(tx *catalog.Tx, v block.Volume) error {
		if v.Status == block.VolumeDownloading {
			return nil
		}
		_, err := tx.MoveVolume(v.ID, block.Download)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.makeEmpty(ctx, v); err != nil {
		return nil, err
	}
	if imagehead.IsRaw(img.DiskFormat) {
		return &img, s.download(ctx, caller, img, func(r *watched) error {
			r.each = s.progress(ctx, t, "downloading", img.Size, whileCreating...)
			from, err := rawOnly(r, img.DiskFormat)
			if err != nil {
				return err
			}
			return s.overwrite(ctx, v, func(to driver.Device) error { return s.pour(ctx, v, img, to, from, nil) })
		})
	}
	return &img, s.downloadConverted(ctx, t, v, caller, img)
}

// download opens an image for reading and closes it after use. What use read to the
// end has to be all of the image: else a volume would begin as the image does, and be
// said to be the whole of it.
func (s *Service) download(ctx context.Context, c block.Caller, img Image, use func(*watched) error) (err error) {
	body, err := s.cfg.Images.Open(ctx, c, img.ID)
	if err != nil {
		return err
	}
	defer closing(&err, body.Close)
	w := &watched{ctx: ctx, r: body}
	if err := use(w); err != nil {
		return err
	}
	if w.done != img.Size {
		return block.Errorf(block.Corrupt, "The image has %d bytes, and %d of them could be read.", img.Size, w.done)
	}
	return nil
}

// overwrite lets fn write to a new volume and flushes it. The volume reads as
// zeros, or in part as what an attempt before wrote, which was the same.
func (s *Service) overwrite(ctx context.Context, v block.Volume, fn func(driver.Device) error) (err error) {
	to, giveBack, err := s.fillable(ctx, v)
	if err != nil {
		return err
	}
	defer closing(&err, giveBack)
	if err := fn(to); err != nil {
		return err
	}
	return to.Flush()
}

// downloadConverted downloads an image of another format than raw to a file,
// has it converted to raw, and writes that to the volume.
func (s *Service) downloadConverted(ctx context.Context, t *job.Task, v block.Volume, caller block.Caller,
	img Image) (err error) {
	if qemuFormats[img.DiskFormat] == "" {
		return block.Errorf(block.Unsupported, "Images of disk format %s can't be read.", img.DiskFormat)
	}
	if _, err := s.qemuImg(); err != nil {
		return err
	}
	c, err := s.beginConversion(t, min(img.Size, v.Size*block.GiB))
	if err != nil {
		return err
	}
	defer closing(&err, c.end)
	stored, raw := filepath.Join(c.dir, "stored"), filepath.Join(c.dir, "raw")
	err = s.download(ctx, caller, img, func(r *watched) error {
		r.each = s.progress(ctx, t, "downloading", img.Size, whileCreating...)
		return writeFile(stored, r, v.Size*block.GiB, nil)
	})
	if err != nil {
		return err
	}
	info, err := s.inspect(ctx, stored, img.DiskFormat)
	if err != nil {
		return err
	}
	if info.VirtualSize > v.Size*block.GiB {
		return tooLarge(gibs(info.VirtualSize), v.Size)
	}
	need, err := s.rawBytes(ctx, stored, qemuFormats[img.DiskFormat], info)
	if err != nil {
		return err
	}
	if err := c.reserve(img.Size + need); err != nil {
		return err
	}
	t.Progress("converting", 0, info.VirtualSize)
	if err := s.convert(ctx, stored, qemuFormats[img.DiskFormat], raw, "raw"); err != nil {
		return err
	}
	f, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer closing(&err, f.Close)
	each := s.progress(ctx, t, "writing", info.VirtualSize, whileCreating...)
	return s.overwrite(ctx, v, func(to driver.Device) error {
		if v.Encryption != nil { // what is a hole there is none here
			return s.pour(ctx, v, img, to, f, each)
		}
		return streamFile(to, f, info.VirtualSize, each)
	})
}
