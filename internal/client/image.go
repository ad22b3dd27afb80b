package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

const imageService = "image"

// Image is an image as the image service's v2 shows it.
type Image struct {
	ID              string  `json:"id"`
	Name            string  `json:"name"`
	Status          string  `json:"status"`
	DiskFormat      string  `json:"disk_format"`
	ContainerFormat string  `json:"container_format"`
	Visibility      string  `json:"visibility"`
	Protected       bool    `json:"protected"`
	Size            *int64  `json:"size"` // bytes
	Checksum        *string `json:"checksum"`
}

// NewImage is a request for an image without its bytes.
type NewImage struct {
	Name            string `json:"name"`
	DiskFormat      string `json:"disk_format"`
	ContainerFormat string `json:"container_format"`
	Visibility      string `json:"visibility,omitempty"`
	Protected       bool   `json:"protected"`
}

// Images lists images by page until the end.
func (s *Session) Images(ctx context.Context) ([]Image, error) {
	var images []Image
	path := "/v2/images?limit=500"
	for path != "" {
		var page struct {
			Images []Image `json:"images"`
			Next   string  `json:"next"`
		}
		if err := s.call(ctx, http.MethodGet, imageService, path, nil, &page); err != nil {
			return nil, err
		}
		images = append(images, page.Images...)
		path = page.Next
	}
	return images, nil
}

// Image shows one image.
func (s *Session) Image(ctx context.Context, id string) (Image, error) {
	var out Image
	err := s.call(ctx, http.MethodGet, imageService, "/v2/images/"+url.PathEscape(id), nil, &out)
	return out, err
}

// CreateImage makes the record of an image; UploadImage gives it its bytes.
func (s *Session) CreateImage(ctx context.Context, n NewImage) (Image, error) {
	var out Image
	err := s.call(ctx, http.MethodPost, imageService, "/v2/images", n, &out)
	return out, err
}

// UploadImage sends an image's bytes.
func (s *Session) UploadImage(ctx context.Context, id string, from io.Reader) error {
	base, err := s.URL(imageService)
	if err != nil {
		return err
	}
	_, _, err = exchange{
		http:   s.streaming(),
		method: http.MethodPut,
		url:    base + "/v2/images/" + url.PathEscape(id) + "/file",
		body:   from,
		header: http.Header{"X-Auth-Token": {s.token()}, "Content-Type": {"application/octet-stream"}},
	}.do(
		ctx,
	)
	return err
}

// DownloadImage writes an image's bytes.
func (s *Session) DownloadImage(ctx context.Context, id string, to io.Writer) error {
	base, err := s.URL(imageService)
	if err != nil {
		return err
	}
	_, _, err = exchange{
		http:   s.streaming(),
		method: http.MethodGet,
		url:    base + "/v2/images/" + url.PathEscape(id) + "/file",
		out:    to,
		header: http.Header{"X-Auth-Token": {s.token()}},
	}.do(
		ctx,
	)
	return err
}

// DeleteImage deletes an image.
func (s *Session) DeleteImage(ctx context.Context, id string) error {
	return s.call(ctx, http.MethodDelete, imageService, "/v2/images/"+url.PathEscape(id), nil, nil)
}

// streaming is the session's HTTP client without its time-out: an image may
// take as long as it takes, bounded by the caller's context.
func (s *Session) streaming() *http.Client {
	c := *s.http
	c.Timeout = 0
	return &c
}
