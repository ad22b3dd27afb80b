package image

import (
	"encoding/json"
	"maps"
	"slices"
	"unicode/utf8"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// Limits of what an image may be told (glance/common/config.py and
// glance/db/sqlalchemy/models.py).
const (
	maxProperties = 128
	maxTags       = 128
	maxText       = 255    // characters of names and tags
	maxValue      = 65_535 // characters of a property
	maxNumber     = 1<<31 - 1
)

var (
	visibilities     = []string{"community", "public", "private", "shared"}
	diskFormats      = []string{"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}
	containerFormats = []string{"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}
)

// readOnly are the attributes that only the service writes.
var readOnly = []string{"checksum", "created_at", "direct_url", "file", "os_hash_algo", "os_hash_value", "schema",
	"self", "size", "status", "updated_at", "virtual_size", "locations"}

func invalid(name string, why string) error {
	return block.Errorf(block.Invalid, "Invalid value for attribute '%s': %s.", name, why)
}

// setters take the attributes that users write, by name, from JSON.
var setters = map[string]func(i *catalog.Image, v json.RawMessage) error{
	"name": func(i *catalog.Image, v json.RawMessage) error { return read(v, "name", &i.Name) },
	"visibility": func(i *catalog.Image, v json.RawMessage) error {
		return read(v, "visibility", &i.Visibility)
	},
	"disk_format": func(i *catalog.Image, v json.RawMessage) error {
		if i.Status != "" && i.Status != queued {
			return block.Errorf(block.Forbidden, "Attribute disk_format can be only replaced for a queued image.")
		}
		return read(v, "disk_format", &i.DiskFormat)
	},
	"container_format": func(i *catalog.Image, v json.RawMessage) error {
		if i.Status != "" && i.Status != queued {
			return block.Errorf(block.Forbidden, "Attribute container_format can be only replaced for a queued image.")
		}
		return read(v, "container_format", &i.ContainerFormat)
	},
	"protected": func(i *catalog.Image, v json.RawMessage) error { return read(v, "protected", &i.Protected) },
	"min_disk":  func(i *catalog.Image, v json.RawMessage) error { return read(v, "min_disk", &i.MinDisk) },
	"min_ram":   func(i *catalog.Image, v json.RawMessage) error { return read(v, "min_ram", &i.MinRAM) },
	"tags":      func(i *catalog.Image, v json.RawMessage) error { return read(v, "tags", &i.Tags) },
	"os_hidden": func(_ *catalog.Image, v json.RawMessage) error {
		var hidden bool
		if err := read(v, "os_hidden", &hidden); err != nil || !hidden {
			return err
		}
		return invalid("os_hidden", "hidden images are not supported")
	},
	"id": func(i *catalog.Image, v json.RawMessage) error {
		var id string
		if err := read(v, "id", &id); err != nil {
			return err
		}
		id, ok := block.ParseID(id)
		if !ok || i.Status != "" {
			return invalid("id", "not a UUID, or the image has one already")
		}
		i.ID = block.ImageID(id)
		return nil
	},
}

// set writes one attribute, or a property if name is no attribute.
func set(c block.Caller, i *catalog.Image, name string, value json.RawMessage) error {
	if slices.Contains(readOnly, name) {
		return block.Errorf(block.Forbidden, "Attribute '%s' is read-only.", name)
	}
	if name == "owner" {
		if !c.Admin() || i.Status != "" {
			return block.Errorf(block.Forbidden, "Attribute 'owner' is read-only.")
		}
		return read(value, name, &i.Owner)
	}
	if setter, ok := setters[name]; ok {
		return setter(i, value)
	}
	var text string
	if err := read(value, name, &text); err != nil {
		return err
	}
	i.Properties = maps.Clone(i.Properties)
	if i.Properties == nil {
		i.Properties = map[string]string{}
	}
	i.Properties[name] = text
	return nil
}

// unset removes a property; attributes can't be removed.
func unset(i *catalog.Image, name string) error {
	if _, ok := setters[name]; ok || name == "owner" || slices.Contains(readOnly, name) {
		return block.Errorf(block.Forbidden, "Property %s may not be removed.", name)
	}
	if _, ok := i.Properties[name]; !ok {
		return block.Errorf(block.Conflict, "Property %s does not exist.", name)
	}
	i.Properties = maps.Clone(i.Properties)
	delete(i.Properties, name)
	return nil
}

// read decodes one attribute. null is the zero value, and nil for a pointer.
func read[T any](v json.RawMessage, name string, into *T) error {
	var got T
	if err := json.Unmarshal(v, &got); err != nil {
		return invalid(name, "it is of the wrong type")
	}
	*into = got
	return nil
}

// check holds an image against the limits and the caller's rights.
func check(c block.Caller, i catalog.Image) error {
	if i.Name != nil && utf8.RuneCountInString(*i.Name) > maxText {
		return invalid("name", "it is longer than 255 characters")
	}
	if !slices.Contains(visibilities, i.Visibility) {
		return invalid("visibility", "it must be community, public, private or shared")
	}
	if i.Visibility == "public" && !c.Admin() {
		return block.Errorf(block.Forbidden, "You are not authorized to complete publicize_image action.")
	}
	if i.DiskFormat != nil && !slices.Contains(diskFormats, *i.DiskFormat) {
		return invalid("disk_format", "this format is not supported")
	}
	if i.ContainerFormat != nil && !slices.Contains(containerFormats, *i.ContainerFormat) {
		return invalid("container_format", "this format is not supported")
	}
	if i.MinDisk < 0 || i.MinDisk > maxNumber {
		return invalid("min_disk", "it is out of range")
	}
	if i.MinRAM < 0 || i.MinRAM > maxNumber {
		return invalid("min_ram", "it is out of range")
	}
	if len(i.Tags) > maxTags || len(i.Properties) > maxProperties {
		return block.Errorf(block.OverLimit, "An image has at most %d tags and %d properties.", maxTags, maxProperties)
	}
	for _, tag := range i.Tags {
		if tag == "" || utf8.RuneCountInString(tag) > maxText {
			return invalid("tags", "a tag has 1 to 255 characters")
		}
	}
	for name, value := range i.Properties {
		if name == "" || utf8.RuneCountInString(name) > maxText || utf8.RuneCountInString(value) > maxValue {
			return block.Errorf(block.Invalid, "A property's name has 1 to %d characters and its value at most %d.",
				maxText, maxValue)
		}
	}
	return nil
}
