package image

import (
	"net/http"
	"time"

	"kvol/internal/api"
	"kvol/internal/block"
	"kvol/internal/catalog"
)

// view is an image as the API shows it: its properties lie beside its
// attributes (glance/api/v2/images.py, ResponseSerializer).
func view(i catalog.Image) map[string]any {
	v := map[string]any{}
	for name, text := range i.Properties {
		v[name] = text
	}
	tags := i.Tags
	if tags == nil {
		tags = []string{}
	}
	var algorithm *string
	if i.HashValue != nil {
		algorithm = orNil("sha512")
	}
	self := "/v2/images/" + string(i.ID)
	for name, attribute := range map[string]any{
		"id": i.ID, "name": i.Name, "status": i.Status, "visibility": i.Visibility, "owner": i.Owner,
		"disk_format": i.DiskFormat, "container_format": i.ContainerFormat, "protected": i.Protected,
		"min_disk": i.MinDisk, "min_ram": i.MinRAM, "size": i.Size, "virtual_size": i.VirtualSize,
		"checksum": i.Checksum, "os_hash_algo": algorithm, "os_hash_value": i.HashValue, "os_hidden": false,
		"tags": tags, "self": self, "file": self + "/file", "schema": "/v2/schemas/image",
		"created_at": i.CreatedAt.Format(time.RFC3339), "updated_at": i.UpdatedAt.Format(time.RFC3339),
	} {
		v[name] = attribute
	}
	return v
}

// The schemas tell Python's clients which attributes there are.

type attribute struct {
	kind     any
	readOnly bool
	says     string
}

var schema = map[string]attribute{
	"id":               {kind: "string", says: "An identifier for the image"},
	"name":             {kind: nullable, says: "Descriptive name for the image"},
	"status":           {kind: "string", readOnly: true, says: "Status of the image"},
	"visibility":       {kind: "string", says: "Scope of image accessibility"},
	"owner":            {kind: nullable, says: "Owner of the image"},
	"disk_format":      {kind: nullable, says: "Format of the disk"},
	"container_format": {kind: nullable, says: "Format of the container"},
	"protected":        {kind: "boolean", says: "If true, image will not be deletable."},
	"min_disk":         {kind: "integer", says: "Amount of disk space (in GB) required to boot image."},
	"min_ram":          {kind: "integer", says: "Amount of ram (in MB) required to boot image."},
	"size":             {kind: []string{"null", "integer"}, readOnly: true, says: "Size of image file in bytes"},
	"virtual_size":     {kind: []string{"null", "integer"}, readOnly: true, says: "Virtual size of image in bytes"},
	"checksum":         {kind: nullable, readOnly: true, says: "md5 hash of image contents."},
	"os_hash_algo":     {kind: nullable, readOnly: true, says: "Algorithm to calculate the os_hash_value"},
	"os_hash_value":    {kind: nullable, readOnly: true, says: "Hexdigest of the image contents"},
	"os_hidden":        {kind: "boolean", says: "If true, image will not appear in default image list response."},
	"created_at":       {kind: "string", readOnly: true, says: "Date and time of image registration"},
	"updated_at":       {kind: "string", readOnly: true, says: "Date and time of the last image modification"},
	"tags":             {kind: "array", says: "List of strings related to the image"},
	"self":             {kind: "string", readOnly: true, says: "An image self url"},
	"file":             {kind: "string", readOnly: true, says: "An image file url"},
	"schema":           {kind: "string", readOnly: true, says: "An image schema url"},
}

var nullable = []string{"null", "string"}

func imageSchema() map[string]any {
	properties := map[string]any{}
	for name, a := range schema {
		p := map[string]any{"type": a.kind, "description": a.says}
		if a.readOnly {
			p["readOnly"] = true
		}
		switch name {
		case "tags":
			p["items"] = map[string]any{"type": "string", "maxLength": maxText}
		case "visibility":
			p["enum"] = visibilities
		case "disk_format":
			p["enum"] = append([]any{nil}, anyOf(diskFormats)...)
		case "container_format":
			p["enum"] = append([]any{nil}, anyOf(containerFormats)...)
		}
		properties[name] = p
	}
	return map[string]any{"name": "image", "properties": properties,
		"additionalProperties": map[string]any{"type": "string"},
		"links": []map[string]string{{"rel": "self", "href": "{self}"}, {"rel": "enclosure", "href": "{file}"},
			{"rel": "describedby", "href": "{schema}"}}}
}

func anyOf(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

func (s *Service) schemaImage(w http.ResponseWriter, _ *http.Request, _ block.Caller) error {
	api.WriteJSON(w, http.StatusOK, imageSchema())
	return nil
}

func (s *Service) schemaImages(w http.ResponseWriter, _ *http.Request, _ block.Caller) error {
	api.WriteJSON(w, http.StatusOK, map[string]any{"name": "images",
		"properties": map[string]any{
			"images": map[string]any{"type": "array", "items": imageSchema()},
			"first":  map[string]any{"type": "string"}, "next": map[string]any{"type": "string"},
			"schema": map[string]any{"type": "string"},
		},
		"links": []map[string]string{{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"},
			{"rel": "describedby", "href": "{schema}"}}})
	return nil
}
