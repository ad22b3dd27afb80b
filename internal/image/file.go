package image

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// part ends the name of a file that is being written.
const part = ".part"

// copyBytes are read and written at once.
const copyBytes = 1 << 20

// file is where an image's bytes lie. The upload is part of its name, so that
// no upload ever writes where another one did.
func (s *Service) file(i catalog.Image) string {
	return filepath.Join(s.config.Dir, string(i.ID)+"."+i.Upload)
}

// sweep puts images whose upload a crash cut back to queued and removes all
// files that belong to no image.
func (s *Service) sweep(ctx context.Context) error {
	keep := map[string]bool{}
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		clear(keep)
		all, err := tx.Images(catalog.ImageQuery{All: true, Community: true, Limit: -1})
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Status != saving {
				keep[filepath.Base(s.file(i))] = true
				continue
			}
			i.Status, i.Upload = queued, ""
			if err := tx.UpdateImage(i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if keep[e.Name()] || !ours(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(s.config.Dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// ours reports whether a file's name is one that file makes: <uuid>.<uuid>,
// and .part after it while it is written. Others are nobody's to remove.
func ours(name string) bool {
	id, upload, ok := strings.Cut(strings.TrimSuffix(name, part), ".")
	if !ok {
		return false
	}
	_, one := block.ParseID(id)
	_, two := block.ParseID(upload)
	return one && two
}

// upload gives a queued image its bytes. Whatever goes wrong leaves it queued.
// Conflict unless the image is queued, OverLimit if there is too much.
func (s *Service) upload(ctx context.Context, c block.Caller, id string, r io.Reader) error {
	var room int64
	i, err := s.change(ctx, c, id, func(i *catalog.Image) error {
		if i.Status != queued {
			return block.Errorf(block.Conflict,
				"Image status transition from %s to saving is not allowed", i.Status)
		}
		if i.DiskFormat == nil || i.ContainerFormat == nil {
			return block.Errorf(block.Invalid,
				"Properties disk_format, container_format must be set prior to saving data.")
		}
		i.Status, i.Upload = saving, block.NewID()
		return nil
	})
	if err != nil {
		return err
	}
	if room, err = s.room(ctx, i.Owner); err == nil {
		err = s.store(ctx, &i, r, room)
	}
	if err == nil {
		if err = s.activate(ctx, i); err == nil {
			return nil
		}
	}
	return errors.Join(err, s.requeue(context.WithoutCancel(ctx), i))
}

// room is how many bytes a project's next image may have.
func (s *Service) room(ctx context.Context, owner block.ProjectID) (room int64, err error) {
	room = s.config.MaxSize
	if s.config.MaxAll == 0 {
		return room, nil
	}
	err = s.catalog.View(ctx, func(tx *catalog.Tx) error {
		used, err := tx.ImageBytes(owner)
		room = max(0, min(room, s.config.MaxAll-used))
		return err
	})
	return room, err
}

// store writes the bytes to a file that gets its name once they are all on the
// disk, and notes their size and hashes in i.
func (s *Service) store(ctx context.Context, i *catalog.Image, r io.Reader, room int64) (err error) {
	path := s.file(*i)
	f, err := os.OpenFile(path+part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := &summed{md5: md5.New(), sha: sha512.New()}
	n, err := copyAll(ctx, io.MultiWriter(f, sum), io.LimitReader(r, room+1))
	if err == nil && n > room {
		err = block.Errorf(block.OverLimit, "The image is too large: at most %d bytes are allowed.", room)
	}
	if err == nil {
		err = checkFormat(*i.DiskFormat, sum.head)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+part, path); err != nil {
		return err
	}
	if err := syncDir(s.config.Dir); err != nil {
		return err
	}
	i.Size, i.VirtualSize = &n, virtualSize(*i.DiskFormat, sum.head, n)
	i.Checksum, i.HashValue = hexOf(sum.md5), hexOf(sum.sha)
	return nil
}

// copyAll is io.Copy that ends with its context and says what a full disk is.
func copyAll(ctx context.Context, w io.Writer, r io.Reader) (n int64, err error) {
	buf := make([]byte, copyBytes)
	for {
		if ctx.Err() != nil {
			return n, context.Cause(ctx)
		}
		// Not io.ReadFull: it would turn a connection that was cut, which is
		// io.ErrUnexpectedEOF, into an end.
		m, rerr := r.Read(buf)
		if _, err := w.Write(buf[:m]); err != nil {
			if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
				return n, block.Wrap(block.NoSpace, err, "There is not enough disk space on the image storage media.")
			}
			return n, err
		}
		n += int64(m)
		if errors.Is(rerr, io.EOF) {
			return n, nil
		}
		if rerr != nil {
			return n, block.Wrap(block.Invalid, rerr, "The image's data could not be read to its end.")
		}
	}
}

// activate makes the image's bytes visible, unless it was deleted meanwhile.
func (s *Service) activate(ctx context.Context, done catalog.Image) error {
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.Image(done.ID)
		if err != nil {
			return err
		}
		if now.Status != saving || now.Upload != done.Upload {
			return block.Errorf(block.Conflict, "Image %s was changed while its data was saved.", done.ID)
		}
		now.Status, now.Size, now.VirtualSize = active, done.Size, done.VirtualSize
		now.Checksum, now.HashValue = done.Checksum, done.HashValue
		return tx.UpdateImage(now)
	})
}

// requeue takes back an upload that failed.
func (s *Service) requeue(ctx context.Context, failed catalog.Image) error {
	path := s.file(failed)
	err := s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		now, err := tx.Image(failed.ID)
		if block.Is(err, block.NotFound) || err == nil && now.Upload != failed.Upload {
			return nil
		}
		if err != nil {
			return err
		}
		now.Status, now.Upload = queued, ""
		return tx.UpdateImage(now)
	})
	if err != nil {
		return fmt.Errorf("put image back to queued: %w", err)
	}
	for _, p := range []string{path, path + part} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// summed hashes what it is given and keeps its beginning.
type summed struct {
	md5, sha hash.Hash
	head     []byte
}

// headBytes are enough to know a format.
const headBytes = 512

// Write never fails.
func (s *summed) Write(p []byte) (int, error) {
	s.md5.Write(p) // hashes never fail
	s.sha.Write(p)
	if room := headBytes - len(s.head); room > 0 {
		s.head = append(s.head, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func hexOf(h hash.Hash) *string {
	s := hex.EncodeToString(h.Sum(nil))
	return &s
}

var qcow2Magic = []byte("QFI\xfb")

// checkFormat refuses qcow2 under the name of raw: it could lead a consumer
// that guesses formats to a backing file that is not the tenant's
// (OSSA-2024-001).
func checkFormat(format string, head []byte) error {
	if format == "raw" && bytes.HasPrefix(head, qcow2Magic) {
		return block.Errorf(block.Unsupported, "The image's data is not of the disk_format %s.", format)
	}
	return nil
}

// virtualSize is how many bytes a disk of the image has, nil if that isn't
// known (QEMU docs/interop/qcow2.txt: bytes 24 to 31).
func virtualSize(format string, head []byte, size int64) *int64 {
	switch {
	case format == "raw":
		return &size
	case format == "qcow2" && len(head) >= 32 && bytes.HasPrefix(head, qcow2Magic):
		if v := binary.BigEndian.Uint64(head[24:32]); v < 1<<62 {
			n := int64(v)
			return &n
		}
	}
	return nil
}
