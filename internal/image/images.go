package image

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
)

var _ control.Images = (*Service)(nil)

// Find returns an image by id, or by name if the caller sees exactly one of
// it; NotFound otherwise.
func (s *Service) Find(ctx context.Context, c block.Caller, idOrName string) (control.Image, error) {
	if id, ok := block.ParseID(idOrName); ok {
		i, err := s.get(ctx, c, id)
		if !block.Is(err, block.NotFound) {
			return volumeView(i), err
		}
	}
	var found []catalog.Image
	err := s.catalog.View(ctx, func(tx *catalog.Tx) (err error) {
		found, err = tx.Images(catalog.ImageQuery{Viewer: c.Project, All: c.Admin(),
			Community: true, Limit: 2,
			Filters: map[string]string{"name": idOrName}})
		return err
	})
	if err == nil && len(found) != 1 {
		err = block.Errorf(block.NotFound, "Failed to find image %s", idOrName)
	}
	if err != nil {
		return control.Image{}, err
	}
	return volumeView(found[0]), nil
}

// Open reads an active image's bytes; it, or reading to the end, fails as Corrupt
// where they are not those that were uploaded. Conflict before they are there,
// Forbidden while the image is deactivated, unless for administrators.
func (s *Service) Open(ctx context.Context, c block.Caller, id string) (io.ReadCloser, error) {
	f, i, err := s.open(ctx, c, id)
	if err != nil {
		return nil, err
	}
	return verify(f, i), nil
}

func (s *Service) open(ctx context.Context, c block.Caller, id string) (*os.File, catalog.Image, error) {
	i, err := s.get(ctx, c, id)
	if err != nil {
		return nil, i, err
	}
	switch {
	case i.Status == deactivated && !c.Admin():
		return nil, i, block.Errorf(block.Forbidden,
			"The requested image has been deactivated. Image data download is forbidden.")
	case i.Status != active && i.Status != deactivated:
		return nil, i, block.Errorf(block.Conflict, "Image %s has no data yet: it is %s.", id, i.Status)
	}
	f, err := os.Open(s.file(i))
	if errors.Is(err, os.ErrNotExist) {
		if _, gone := s.get(ctx, c, id); gone != nil {
			return nil, i, gone // deleted in between
		}
	}
	if err != nil {
		return nil, i, block.Wrap(block.Internal, err, "the data of image %s is missing", id)
	}
	if err := checkSize(f, i); err != nil {
		return nil, i, errors.Join(err, f.Close())
	}
	return f, i, nil
}

// Create makes a queued image. An ID that exists is a Conflict.
func (s *Service) Create(ctx context.Context, c block.Caller, img control.Image) (control.Image, error) {
	i := catalog.Image{ID: block.ImageID(img.ID), Name: &img.Name, Visibility: img.Visibility,
		DiskFormat: orNil(img.DiskFormat), ContainerFormat: orNil(img.ContainerFormat), Protected: img.Protected,
		MinDisk: img.MinDisk, MinRAM: img.MinRAM, Properties: maps.Clone(img.Properties)}
	i, err := s.create(ctx, c, i)
	if err != nil {
		return control.Image{}, err
	}
	return volumeView(i), nil
}

// Upload gives a queued image its bytes and makes it active. Whatever goes
// wrong leaves it queued, so that it may be repeated.
func (s *Service) Upload(ctx context.Context, c block.Caller, id string, r io.Reader) error {
	return s.upload(ctx, c, id, r)
}

// Delete removes an image; NotFound if it is gone already, Forbidden if it is
// protected or another project's.
func (s *Service) Delete(ctx context.Context, c block.Caller, id string) error {
	return s.delete(ctx, c, id)
}

func volumeView(i catalog.Image) control.Image {
	return control.Image{ID: string(i.ID), Name: value(i.Name), Status: i.Status, DiskFormat: value(i.DiskFormat),
		ContainerFormat: value(i.ContainerFormat), Checksum: value(i.Checksum), Visibility: i.Visibility,
		Size: value(i.Size), MinDisk: i.MinDisk, MinRAM: i.MinRAM, VirtualSize: value(i.VirtualSize),
		Protected: i.Protected, Properties: i.Properties}
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
