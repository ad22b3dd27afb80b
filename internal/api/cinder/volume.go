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
	count, counted, err := c.count(p, c.s.cfg.Control.CountVolumes)
	if err != nil {
		return err
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
		if counted {
			e.wholeMember("count", count)
		}
		e.close('}')
	})
}

// showVolumeAs answers with a volume that was made or changed.
func (c *call) showVolumeAs(status int, v block.Volume, err error) error {
	return c.answerVolume(status, c.view.changedVolume, v, err)
}

func (c *call) answerVolume(status int, show func(*encoder, block.Volume), v block.Volume, err error) error {
	if err != nil {
		return err
	}
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key("volume")
		show(e, v)
		e.close('}')
	})
}

func showVolume(c *call) error {
	v, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID())
	return c.answerVolume(http.StatusOK, c.view.volume, v, err)
}

func createVolume(c *call) error {
	o, err := c.checked("volume", createVolumeBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	req, err := newVolume(c.view.edition, o.object("volume"))
	if err != nil {
		return err
	}
	req.Hints = hints(o.object("OS-SCH-HNT:scheduler_hints"))
	if c.view.v3 {
		if err := refuseNewer(c.view.edition, o.object("volume")); err != nil {
			return err
		}
	}
	v, err := c.s.cfg.Control.CreateVolume(c.r.Context(), c.caller, req)
	return c.showVolumeAs(http.StatusAccepted, v, err)
}

// newVolume reads a create request. Null members are the same as absent ones.
func newVolume(in edition, o *object) (control.NewVolume, error) {
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
	req.GroupID = id[block.GroupID](o, "consistencygroup_id")
	if name := o.text("group_id"); name != nil && in.since(13) {
		if req.GroupID = id[block.GroupID](o, "group_id"); req.GroupID == nil {
			return req, block.Errorf(block.NotFound, "Group %s could not be found.", *name)
		}
	}
	if in.since(47) {
		req.BackupID = id[block.BackupID](o, "backup_id")
	}
	req.ImageRef = o.text("imageRef")
	if req.ImageRef == nil {
		req.ImageRef = o.text("image_id")
	}
	if req.ImageRef != nil && *req.ImageRef == "" {
		return req, invalid("Invalid image identifier or unable to access requested image.")
	}
	if req.Size == nil && !in.v3 && req.SnapshotID == nil && req.SourceVolumeID == nil {
		return req, invalid("Invalid input received: Volume size 'None' must be an integer and greater than 0")
	}
	return req, nil
}

// hints reads scheduler hints; those that are not known are passed over. What is
// no id, or no list of ids, fits no backend
// (cinder/scheduler/filters/affinity_filter.py).
func hints(o *object) (h control.Hints) {
	if o == nil {
		return h
	}
	h.Same = hinted(o, "same_host", &h)
	h.Different = hinted(o, "different_host", &h)
	return h
}

func hinted(o *object, name string, h *control.Hints) (ids []block.VolumeID) {
	value, given := o.get(name)
	if !given {
		return nil
	}
	list, several := value.([]any)
	if !several {
		list = []any{value}
	}
	for _, one := range list {
		text, _ := one.(string)
		id, ok := block.ParseID(text)
		if !ok {
			h.Unreadable = true
		}
		ids = append(ids, block.VolumeID(id))
	}
	return ids
}

// refuseNewer refuses what /v3 refuses of a new volume: a flag that types took
// the place of, and sources that can't exist here.
func refuseNewer(in edition, o *object) error {
	if o.flag("multiattach") {
		return invalid("multiattach parameter has been removed. The default behavior is to use multiattach enabled " +
			"volume types. Contact your administrator to create a multiattach enabled volume type and use it to " +
			"create multiattach volumes.")
	}
	return nil
}

func updateVolume(c *call) error {
	o, err := c.checked("volume", updateVolumeBodyOf(c.view.edition))
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
	if c.view.since(23) {
		force, err := c.queryFlag("force")
		if err != nil {
			return err
		}
		if force {
			return c.accepted(c.s.cfg.Control.DeleteVolumeByForce(c.r.Context(), c.caller, c.volumeID(), cascade))
		}
	}
	return c.accepted(c.s.cfg.Control.DeleteVolume(c.r.Context(), c.caller, c.volumeID(), cascade))
}
