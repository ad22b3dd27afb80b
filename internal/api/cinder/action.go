package cinder

import (
	"context"
	"net/http"

	"kvol/internal/block"
	"kvol/internal/control"
)

// action is one kind of POST .../action: what its argument must be, and what
// happens. o is nil where the argument is no object.
type action struct {
	argument func(edition) *schema
	serve    func(c *call, o *object) error
}

// always is the same schema in all editions.
func always(s *schema) func(edition) *schema { return func(edition) *schema { return s } }

// uploadBodyOf is the argument of os-volume_upload_image: visibility and
// protected came with 3.1, and to the guide's v2.
func uploadBodyOf(in edition) *schema {
	switch {
	case in.since(1):
		return uploadBody31
	case in.v3:
		return uploadBody3
	}
	return uploadBody
}

func volumeAction(c *call) error { return c.act(volumeActions) }

func snapshotAction(c *call) error { return c.act(snapshotActions) }

// act does the one action that the body names (wsgi.py, get_action).
func (c *call) act(actions map[string]action) error {
	o, err := c.body()
	if err != nil {
		return err
	}
	if o == nil || len(o.members) != 1 {
		return errBadBody
	}
	name, argument := o.members[0].name, o.members[0].value
	a, ok := actions[name]
	since := newerActions[name]
	if ok && c.view.v3 && !c.view.since(since) {
		return errNoResource
	}
	if !ok || since > 0 && !c.view.v3 {
		return invalid("There is no such action: %s. "+
			"Verify the request body and Content-Type header and try again.", name)
	}
	if err = a.argument(c.view.edition).check(name, argument); err != nil {
		return err
	}
	inner, _ := argument.(*object)
	if inner == nil {
		inner = &object{}
	}
	return a.serve(c, inner)
}

// plainAction makes an action of a method that needs nothing but the volume.
func plainAction(
	do func(*control.Service, context.Context, block.Caller, block.VolumeID) error) func(*call, *object) error {
	return func(c *call, _ *object) error {
		return c.accepted(do(c.s.cfg.Control, c.r.Context(), c.caller, c.volumeID()))
	}
}

func attach(c *call, o *object) error {
	req := control.AttachRequest{ServerID: o.text("instance_uuid"), HostName: nonEmpty(o.text("host_name")),
		Device: *o.text("mountpoint")}
	if mode := o.text("mode"); mode != nil {
		req.Mode = *mode
	}
	switch {
	case req.ServerID != nil && req.HostName != nil:
		return invalid("Invalid request to attach volume to an instance %s and a host %s simultaneously",
			*req.ServerID, *req.HostName)
	case req.ServerID == nil && req.HostName == nil:
		return invalid("Invalid request to attach volume to an invalid target")
	}
	return c.accepted(c.s.cfg.Control.Attach(c.r.Context(), c.caller, c.volumeID(), req))
}

func detach(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.Detach(c.r.Context(), c.caller, c.volumeID(),
		id[block.AttachmentID](o, "attachment_id")))
}

// forceDetach takes the paths back that a connector was given, all of them
// without one, and then detaches.
func forceDetach(c *call, o *object) error {
	if _, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID()); err != nil {
		return err
	}
	const rule = "volume_extension:volume_admin_actions:force_detach"
	if err := c.s.cfg.Control.MayAdminister(c.r.Context(), c.caller, rule); err != nil {
		return err
	}
	if o.object("connector") != nil {
		err := c.s.cfg.Control.TerminateConnection(c.r.Context(), c.caller, c.volumeID(), connector(o))
		if err != nil {
			return err
		}
	}
	return detach(c, o)
}

// connector returns what the host says of itself, as it was sent.
func connector(o *object) map[string]any {
	m, _ := plain(o.object("connector")).(map[string]any)
	return m
}

func initializeConnection(c *call, o *object) error {
	info, err := c.s.cfg.Control.InitializeConnection(c.r.Context(), c.caller, c.volumeID(), connector(o))
	if err != nil {
		return err
	}
	out := map[string]any{"driver_volume_type": info.DriverVolumeType, "data": info.Data}
	if info.MountPointBase != "" { // as cinder/volume/drivers/nfs.py has it, beside the data
		out["mount_point_base"] = info.MountPointBase
	}
	return c.answer(http.StatusOK, map[string]any{"connection_info": out})
}

func terminateConnection(c *call, o *object) error {
	var host map[string]any
	if o.object("connector") != nil {
		host = connector(o)
	}
	return c.accepted(c.s.cfg.Control.TerminateConnection(c.r.Context(), c.caller, c.volumeID(), host))
}

// extend grows a volume. Before 3.42 only one that nobody uses, though control
// can do more; a volume that gets a user in between is extended all the same.
func extend(c *call, o *object) error {
	v, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID())
	if err != nil {
		return err
	}
	if !c.view.since(42) && v.Status == block.VolumeInUse && v.RecoveredTo == nil { // else the rules say where it lives on
		return invalid("Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, currently %s.",
			v.ID, v.Status)
	}
	return c.accepted(c.s.cfg.Control.ExtendVolume(c.r.Context(), c.caller, c.volumeID(), *o.whole("new_size")))
}

func resetVolume(c *call, o *object) error {
	reset := control.VolumeReset{Status: o.text("status"), AttachStatus: o.text("attach_status"),
		MigrationStatus: o.text("migration_status")}
	if reset == (control.VolumeReset{}) {
		return invalid("Must specify 'status', 'attach_status' or 'migration_status' for update.")
	}
	return c.accepted(c.s.cfg.Control.ResetVolumeStatus(c.r.Context(), c.caller, c.volumeID(), reset))
}

func setBootable(c *call, o *object) error {
	err := c.s.cfg.Control.SetBootable(c.r.Context(), c.caller, c.volumeID(), o.flag("bootable"))
	if err != nil {
		return err
	}
	return c.empty(http.StatusOK)
}

func setReadonly(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.SetReadonly(c.r.Context(), c.caller, c.volumeID(), o.flag("readonly")))
}

func uploadImage(c *call, o *object) error {
	req := control.UploadRequest{ImageName: *o.text("image_name"), Force: o.flag("force"),
		DiskFormat: "raw", ContainerFormat: "bare", Visibility: "private", Protected: o.flag("protected")}
	if c.view.v3 && !c.view.since(1) { // members that are not known yet mean nothing
		o, req.Protected = o.without("visibility"), false
	}
	for name, field := range map[string]*string{"disk_format": &req.DiskFormat,
		"container_format": &req.ContainerFormat, "visibility": &req.Visibility} {
		if given := o.text(name); given != nil {
			*field = *given
		}
	}
	u, err := c.s.cfg.Control.UploadImage(c.r.Context(), c.caller, c.volumeID(), req)
	if err != nil {
		return err
	}
	return c.document(http.StatusAccepted, func(e *encoder) {
		e.open('{')
		e.key("os-volume_upload_image")
		c.view.upload(e, u)
		e.close('}')
	})
}

func setImageMetadata(c *call, o *object) error {
	m, err := c.s.cfg.Control.SetImageMetadata(c.r.Context(), c.caller, c.volumeID(), o.texts("metadata"))
	return c.showTexts("metadata", m, err)
}

func showImageMetadata(c *call, _ *object) error {
	m, err := c.s.cfg.Control.ImageMetadata(c.r.Context(), c.caller, c.volumeID())
	return c.showTexts("metadata", m, err)
}

func unsetImageMetadata(c *call, o *object) error {
	err := c.s.cfg.Control.UnsetImageMetadata(c.r.Context(), c.caller, c.volumeID(), *o.text("key"))
	if err != nil {
		return err
	}
	return c.empty(http.StatusOK)
}

func resetSnapshot(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.ResetSnapshotStatus(c.r.Context(), c.caller, c.snapshotID(), *o.text("status")))
}

func forceDeleteSnapshot(c *call, _ *object) error {
	return c.accepted(c.s.cfg.Control.ForceDeleteSnapshot(c.r.Context(), c.caller, c.snapshotID()))
}
