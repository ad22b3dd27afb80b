package cinder

import (
	"net/http"

	"kvol/internal/block"
	"kvol/internal/control"
)

func listVolumes(c *call) error { return c.volumes("volumes", c.view.volumeSummary) }

func listVolumesDetail(c *call) error { return c.volumes("volumes/detail", c.view.volume) }

func (c *call) volumes(collection string, show func(*encoder, block.Volume)) error {
	p, err := c.page(volumeList)
	if err != nil {
		return err
	}
	p.collection = collection
	var volumes []block.Volume
	if !p.none {
		if volumes, err = c.s.cfg.Control.Volumes(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("volumes")
		e.open('[')
		for _, v := range volumes {
			show(e, v)
		}
		e.close(']')
		if len(volumes) > 0 {
			p.links(e, len(volumes), string(volumes[len(volumes)-1].ID))
		}
		e.close('}')
	})
}

// showVolumeAs answers with a volume.
func (c *call) showVolumeAs(status int, v block.Volume, err error) error {
	if err != nil {
		return err
	}
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key("volume")
		c.view.volume(e, v)
		e.close('}')
	})
}

func showVolume(c *call) error {
	v, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID())
	return c.showVolumeAs(http.StatusOK, v, err)
}

func createVolume(c *call) error {
	o, err := c.checked("volume", createVolumeBody)
	if err != nil {
		return err
	}
	req, err := newVolume(o.object("volume"))
	if err != nil {
		return err
	}
	v, err := c.s.cfg.Control.CreateVolume(c.r.Context(), c.caller, req)
	return c.showVolumeAs(http.StatusAccepted, v, err)
}

// newVolume reads a create request. Null members are the same as absent ones.
func newVolume(o *object) (control.NewVolume, error) {
	req := control.NewVolume{
		Size:             o.whole("size"),
		Name:             o.stripped("name", "display_name"),
		Description:      o.stripped("description", "display_description"),
		VolumeType:       nonEmpty(o.text("volume_type")),
		AvailabilityZone: o.text("availability_zone"),
		SnapshotID:       id[block.SnapshotID](o, "snapshot_id"),
		SourceVolumeID:   id[block.VolumeID](o, "source_volid"),
		Multiattach:      o.flag("multiattach"),
		Metadata:         o.texts("metadata"),
	}
	req.ConsistencyGroupID = id[string](o, "consistencygroup_id")
	req.ImageRef = o.text("imageRef")
	if req.ImageRef == nil {
		req.ImageRef = o.text("image_id")
	}
	if req.ImageRef != nil && *req.ImageRef == "" {
		return req, invalid("Invalid image identifier or unable to access requested image.")
	}
	if req.Size == nil && req.SnapshotID == nil && req.SourceVolumeID == nil {
		return req, invalid("Invalid input received: Volume size 'None' must be an integer and greater than 0")
	}
	return req, nil
}

func updateVolume(c *call) error {
	o, err := c.checked("volume", updateVolumeBody)
	if err != nil {
		return err
	}
	o = o.object("volume")
	change := control.VolumeChange{
		Name:        o.change("name", "display_name"),
		Description: o.change("description", "display_description"),
	}
	if m := o.texts("metadata"); m != nil {
		change.Metadata = &m
	}
	v, err := c.s.cfg.Control.UpdateVolume(c.r.Context(), c.caller, c.volumeID(), change)
	return c.showVolumeAs(http.StatusOK, v, err)
}

func deleteVolume(c *call) error {
	cascade, err := c.queryFlag("cascade")
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.DeleteVolume(c.r.Context(), c.caller, c.volumeID(), cascade))
}
