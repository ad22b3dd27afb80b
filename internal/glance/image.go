package glance

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

var _ control.Images = (*Service)(nil)

// found is an image as Glance shows it.
type found struct {
	control.Image
	hashAlgorithm, hashValue string
}

// baseProperties are what Glance says of each image itself (glance/api/v2/images.py,
// get_base_properties); what else an image has are its own properties.
var baseProperties = []string{"id", "name", "status", "visibility", "protected", "os_hidden", "checksum",
	"os_hash_algo", "os_hash_value", "owner", "size", "virtual_size", "container_format", "disk_format", "created_at",
	"updated_at", "tags", "direct_url", "min_ram", "min_disk", "self", "file", "schema", "locations", "stores",
	"deleted", "deleted_at"}

// UnmarshalJSON reads an image; Glance writes properties beside what it knows
// itself.
func (f *found) UnmarshalJSON(text []byte) error {
	var known struct {
		ID              string  `json:"id"`
		Name            *string `json:"name"`
		Status          string  `json:"status"`
		DiskFormat      *string `json:"disk_format"`
		ContainerFormat *string `json:"container_format"`
		Checksum        *string `json:"checksum"`
		HashAlgorithm   *string `json:"os_hash_algo"`
		HashValue       *string `json:"os_hash_value"`
		Visibility      string  `json:"visibility"`
		Size            *int64  `json:"size"`
		VirtualSize     *int64  `json:"virtual_size"`
		MinDisk         int64   `json:"min_disk"`
		MinRAM          int64   `json:"min_ram"`
		Protected       bool    `json:"protected"`
	}
	var all map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(text, &known), json.Unmarshal(text, &all)); err != nil {
		return err
	}
	if _, ok := block.ParseID(known.ID); !ok {
		return errors.New("an image without an id")
	}
	*f = found{hashAlgorithm: value(known.HashAlgorithm), hashValue: value(known.HashValue), Image: control.Image{
		ID: known.ID, Name: value(known.Name), Status: known.Status, DiskFormat: value(known.DiskFormat),
		ContainerFormat: value(known.ContainerFormat), Checksum: value(known.Checksum), Visibility: known.Visibility,
		Size: max(value(known.Size), 0), VirtualSize: max(value(known.VirtualSize), 0), MinDisk: known.MinDisk,
		MinRAM: known.MinRAM, Protected: known.Protected, Properties: map[string]string{}}}
	for name, raw := range all {
		var text *string
		if !slices.Contains(baseProperties, name) && json.Unmarshal(raw, &text) == nil && text != nil {
			f.Properties[name] = *text
		}
	}
	return nil
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// Find returns an image by id, or by name if the caller sees exactly one of it;
// NotFound otherwise.
func (s *Service) Find(ctx context.Context, c block.Caller, idOrName string) (control.Image, error) {
	if id, ok := block.ParseID(idOrName); ok {
		f, err := s.get(ctx, c, id)
		if !block.Is(err, block.NotFound) {
			return f.Image, err
		}
	}
	if strings.HasPrefix(idOrName, "in:") { // which Glance would take for a list
		return control.Image{}, refused(http.StatusNotFound)
	}
	var list struct {
		Images []found `json:"images"`
	}
	err := s.call(ctx, c, http.MethodGet, "/images?limit=2&name="+url.QueryEscape(idOrName), "", nil, &list)
	if err == nil && (len(list.Images) != 1 || list.Images[0].Name != idOrName) {
		err = refused(http.StatusNotFound)
	}
	if err != nil {
		return control.Image{}, err
	}
	return list.Images[0].Image, nil
}

func (s *Service) get(ctx context.Context, c block.Caller, id string) (f found, err error) {
	err = s.call(ctx, c, http.MethodGet, step(id), "", nil, &f)
	return f, err
}

// Create makes a queued image. An ID that exists, or existed, is a Conflict.
// Properties that Glance keeps for itself are left out.
func (s *Service) Create(ctx context.Context, c block.Caller, img control.Image) (control.Image, error) {
	body := map[string]any{}
	for name, text := range img.Properties {
		if !slices.Contains(baseProperties, name) && !strings.HasPrefix(name, "os_glance_") {
			body[name] = text
		}
	}
	maps.Copy(body, map[string]any{"name": img.Name, "visibility": img.Visibility, "protected": img.Protected,
		"min_disk": img.MinDisk, "min_ram": img.MinRAM})
	for name, text := range map[string]string{"id": img.ID, "disk_format": img.DiskFormat,
		"container_format": img.ContainerFormat} {
		if text != "" {
			body[name] = text
		}
	}
	var f found
	if err := s.call(ctx, c, http.MethodPost, "/images", "application/json", body, &f); err != nil {
		return control.Image{}, err
	}
	return f.Image, nil
}

// patchType is the media type of a change.
const patchType = "application/openstack-images-v2.1-json-patch"

// Delete removes an image; NotFound if it is gone already. One that is protected
// and was never given its bytes loses its protection before.
func (s *Service) Delete(ctx context.Context, c block.Caller, id string) error {
	err := s.call(ctx, c, http.MethodDelete, step(id), "", nil, nil)
	if !block.Is(err, block.Forbidden) {
		return err
	}
	f, failed := s.get(ctx, c, id)
	if failed != nil || !f.Protected || f.Status != "queued" && f.Status != "saving" {
		return err
	}
	open := []map[string]any{{"op": "replace", "path": "/protected", "value": false}}
	if failed = s.call(ctx, c, http.MethodPatch, step(id), patchType, open, nil); failed != nil {
		return failed
	}
	return s.call(ctx, c, http.MethodDelete, step(id), "", nil, nil)
}
