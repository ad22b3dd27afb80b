package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/driver"
	"kvol/internal/job"
)

// uploadPoint names the internal snapshot that an image is made of, so that
// the volume may be written to meanwhile.
func uploadPoint(id block.VolumeID, args uploadArgs) driver.SnapshotRef {
	return driver.SnapshotRef{Volume: id, Name: block.PointID(args.Image)}
}

// runUpload sends a volume's bytes, as they were when the job ran first, to an
// image that waits for them.
func (s *Service) runUpload(ctx context.Context, t *job.Task) error {
	var args uploadArgs
	if err := t.Args(&args); err != nil {
		return err
	}
	v, err := s.wanted(ctx, block.VolumeID(t.Job.Subject), block.VolumeUploading)
	if err != nil {
		return s.unwantedUpload(ctx, t, args, err)
	}
	caller, err := s.caller(args.Project, args.User, args.asker)
	if err != nil {
		return err
	}
	img, err := s.cfg.Images.Find(ctx, caller, args.Image)
	if err != nil {
		return err
	}
	if img.Status != "active" { // else an attempt before sent it all
		if err := s.sendImage(ctx, t, v, args, caller); err != nil {
			return s.unwantedUpload(ctx, t, args, err)
		}
	}
	return s.finish(ctx, v.ID, []block.VolumeStatus{block.VolumeUploading}, func(tx *catalog.Tx, v block.Volume) error {
		if err := dropPoint(tx, v.Backend, uploadPoint(v.ID, args)); err != nil {
			return err
		}
		_, err := tx.MoveVolume(v.ID, block.Done)
		return err
	})
}

// unwantedUpload removes what an upload leaves whose volume went on without
// it.
func (s *Service) unwantedUpload(ctx context.Context, t *job.Task, args uploadArgs, err error) error {
	if !errors.Is(err, errUnwanted) {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return dropUpload(tx, t.Job, args) })
}

// dropUpload states the intent to remove an upload's image and snapshot.
func dropUpload(tx *catalog.Tx, j block.Job, args uploadArgs) error {
	if err := enqueue(tx, jobImageDrop, args.Image, args); err != nil {
		return err
	}
	v, err := tx.Volume(block.VolumeID(j.Subject))
	if err != nil {
		return ignoring(block.NotFound, err) // the snapshot went with the volume
	}
	return dropPoint(tx, v.Backend, uploadPoint(v.ID, args))
}

func gaveUpUpload(tx *catalog.Tx, j block.Job, cause error) error {
	var args uploadArgs
	if err := json.Unmarshal(j.Args, &args); err != nil {
		return err
	}
	if err := dropUpload(tx, j, args); err != nil {
		return err
	}
	return gaveUpVolume(block.VolumeUploading)(tx, j, cause)
}

func (s *Service) sendImage(ctx context.Context, t *job.Task, v block.Volume, args uploadArgs,
	caller block.Caller) (err error) {
	store, err := s.backends.Of(v.Backend)
	if err != nil {
		return err
	}
	if err := store.CreateSnapshot(ctx, uploadPoint(v.ID, args)); err != nil {
		return err
	}
	reader, err := store.OpenSnapshot(ctx, uploadPoint(v.ID, args))
	if err != nil {
		return err
	}
	defer closing(&err, reader.Close)
	content := io.NewSectionReader(reader, 0, reader.Size())
	each := s.progress(ctx, t, "reading", reader.Size(), block.VolumeUploading)
	if v.Encryption != nil {
		sealed, err := s.sealedImage(ctx, v, content)
		if err != nil {
			return err
		}
		return s.cfg.Images.Upload(ctx, caller, args.Image, &watched{ctx: ctx, r: sealed, each: each})
	}
	if args.Format == "raw" {
		return s.cfg.Images.Upload(ctx, caller, args.Image, &watched{ctx: ctx, r: content, each: each})
	}
	need, err := uploadNeed(reader)
	if err != nil {
		return err
	}
	c, err := s.beginConversion(t, need)
	if err != nil {
		return err
	}
	defer closing(&err, c.end)
	return s.sendConverted(ctx, t, args, caller, content, c.dir, each)
}

// sendConverted writes the content to a file in a directory, has it converted, and
// sends the result.
func (s *Service) sendConverted(ctx context.Context, t *job.Task, args uploadArgs, caller block.Caller,
	content *io.SectionReader, dir string, each func(int64) error) (err error) {
	raw, converted := filepath.Join(dir, "raw"), filepath.Join(dir, "converted")
	if err := writeFile(raw, content, content.Size(), each); err != nil {
		return err
	}
	t.Progress("converting", 0, content.Size())
	if err := s.convert(ctx, raw, "raw", converted, qemuFormats[args.Format]); err != nil {
		return err
	}
	f, err := os.Open(converted)
	if err != nil {
		return err
	}
	defer closing(&err, f.Close)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	each = s.progress(ctx, t, "uploading", info.Size(), block.VolumeUploading)
	return s.cfg.Images.Upload(ctx, caller, args.Image, &watched{ctx: ctx, r: f, each: each})
}
