package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const blockStorage = "volumev2"

// Volume is a volume as /v2 shows it.
type Volume struct {
	ID                string            `json:"id"`
	Name              *string           `json:"name"`
	Description       *string           `json:"description"`
	Status            string            `json:"status"`
	Size              int64             `json:"size"` // GiB
	VolumeType        *string           `json:"volume_type"`
	AvailabilityZone  *string           `json:"availability_zone"`
	Bootable          string            `json:"bootable"`
	Encrypted         bool              `json:"encrypted"`
	Multiattach       bool              `json:"multiattach"`
	SnapshotID        *string           `json:"snapshot_id"`
	SourceVolumeID    *string           `json:"source_volid"`
	Metadata          map[string]string `json:"metadata"`
	Attachments       []Attachment      `json:"attachments"`
	ReplicationStatus *string           `json:"replication_status"`
	CreatedAt         string            `json:"created_at"`
}

// Attachment is a host's use of a volume.
type Attachment struct {
	ID           string  `json:"id"`
	AttachmentID string  `json:"attachment_id"`
	VolumeID     string  `json:"volume_id"`
	ServerID     *string `json:"server_id"`
	Device       *string `json:"device"`
}

// NewVolume is a request for a volume; empty fields are left out.
type NewVolume struct {
	Size           int64             `json:"size,omitempty"`
	Name           string            `json:"name,omitempty"`
	Description    string            `json:"description,omitempty"`
	VolumeType     string            `json:"volume_type,omitempty"`
	SnapshotID     string            `json:"snapshot_id,omitempty"`
	SourceVolumeID string            `json:"source_volid,omitempty"`
	ImageRef       string            `json:"imageRef,omitempty"`
	Metadata       map[string]string `json:"metadata,omitempty"`
}

// Connection is the answer of os-initialize_connection.
type Connection struct {
	DriverVolumeType string         `json:"driver_volume_type"`
	Data             map[string]any `json:"data"`
	MountPointBase   string         `json:"mount_point_base,omitempty"`
}

// NBDURL is the address of an NBD connection, as libnbd and qemu take it.
func (c Connection) NBDURL() string {
	u, _ := c.Data["url"].(string)
	return u
}

// Type is a volume type.
type Type struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Public     bool              `json:"os-volume-type-access:is_public"`
	ExtraSpecs map[string]string `json:"extra_specs"`
}

// Types lists the volume types.
func (s *Session) Types(ctx context.Context) ([]Type, error) {
	var out struct {
		Types []Type `json:"volume_types"`
	}
	err := s.call(ctx, http.MethodGet, blockStorage, "/types", nil, &out)
	return out.Types, err
}

// Volumes lists the project's volumes in detail; with all, every project's.
func (s *Session) Volumes(ctx context.Context, all bool) ([]Volume, error) {
	var volumes []Volume
	marker := ""
	for {
		q := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if marker != "" {
			q.Set("marker", marker)
		}
		if all {
			q.Set("all_tenants", "1")
		}
		var page struct {
			Volumes []Volume `json:"volumes"`
		}
		if err := s.call(ctx, http.MethodGet, blockStorage, "/volumes/detail?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		volumes = append(volumes, page.Volumes...)
		if len(page.Volumes) < pageSize {
			return volumes, nil
		}
		marker = page.Volumes[len(page.Volumes)-1].ID
	}
}

// pageSize is how many rows a list asks for at once.
const pageSize = 500

// Volume shows one volume.
func (s *Session) Volume(ctx context.Context, id string) (Volume, error) {
	var out struct {
		Volume Volume `json:"volume"`
	}
	err := s.call(ctx, http.MethodGet, blockStorage, "/volumes/"+url.PathEscape(id), nil, &out)
	return out.Volume, err
}

// FindVolume finds a volume by id or by a name that only one has.
func (s *Session) FindVolume(ctx context.Context, nameOrID string) (Volume, error) {
	v, err := s.Volume(ctx, nameOrID)
	if err == nil || !IsStatus(err, http.StatusNotFound) {
		return v, err
	}
	all, err := s.Volumes(ctx, false)
	if err != nil {
		return Volume{}, err
	}
	var found []Volume
	for _, v := range all {
		if v.Name != nil && *v.Name == nameOrID {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Volume{}, fmt.Errorf("no volume has the name or id %q", nameOrID)
	}
	return Volume{}, fmt.Errorf("%d volumes have the name %q: say the id", len(found), nameOrID)
}

// CreateVolume asks for a volume; it is usable once its status is available.
func (s *Session) CreateVolume(ctx context.Context, v NewVolume) (Volume, error) {
	var out struct {
		Volume Volume `json:"volume"`
	}
	err := s.call(ctx, http.MethodPost, blockStorage, "/volumes", map[string]any{"volume": v}, &out)
	return out.Volume, err
}

// DeleteVolume asks for a volume's deletion; it is gone once Volume says 404.
func (s *Session) DeleteVolume(ctx context.Context, id string) error {
	return s.call(ctx, http.MethodDelete, blockStorage, "/volumes/"+url.PathEscape(id), nil, nil)
}

// VolumeAction sends POST /volumes/{id}/action with one action.
func (s *Session) VolumeAction(ctx context.Context, id, action string, body, out any) error {
	return s.call(ctx, http.MethodPost, blockStorage, "/volumes/"+url.PathEscape(id)+"/action",
		map[string]any{action: body}, out)
}

// Connect asks for a network path to a volume (os-initialize_connection).
func (s *Session) Connect(ctx context.Context, id string, connector map[string]any) (Connection, error) {
	var out struct {
		Info Connection `json:"connection_info"`
	}
	err := s.VolumeAction(ctx, id, "os-initialize_connection", map[string]any{"connector": connector}, &out)
	return out.Info, err
}

// Disconnect gives the path back (os-terminate_connection).
func (s *Session) Disconnect(ctx context.Context, id string, connector map[string]any) error {
	return s.VolumeAction(ctx, id, "os-terminate_connection", map[string]any{"connector": connector}, nil)
}

// WaitVolume polls until the volume has one of the wanted statuses. "deleted"
// stands for a volume that is gone. An error status that is not wanted ends
// the wait with an error. seen, if not nil, is told each status.
func (s *Session) WaitVolume(ctx context.Context, id string, seen func(status string), want ...string) (Volume, error) {
	var last Volume
	err := Poll(ctx, pollEvery, func() (bool, error) {
		v, err := s.Volume(ctx, id)
		if IsStatus(err, http.StatusNotFound) && slices.Contains(want, "deleted") {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		last = v
		if seen != nil {
			seen(v.Status)
		}
		if slices.Contains(want, v.Status) {
			return true, nil
		}
		if isError(v.Status) {
			return false, fmt.Errorf("volume %s went to status %s", id, v.Status)
		}
		return false, nil
	})
	return last, err
}

const pollEvery = 50 * time.Millisecond

func isError(status string) bool { return len(status) >= 5 && status[:5] == "error" }
