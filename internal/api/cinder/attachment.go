package cinder

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"kvol/internal/block"
	"kvol/internal/control"
)

var attachmentList = listing{name: "attachments_links", path: "attachments", strict: true,
	sort: []string{"id", "volume_id", "instance_uuid", "instance_id", "attach_status", "attached_host", "mountpoint",
		"created_at"},
	filters: []string{"volume_id", "status", "instance_id", "attach_status"}}

var (
	newAttachmentMembers = []property{
		{"instance_uuid", false, &schema{kinds: []string{"string"}, uuid: true}},
		{"connector", false, &schema{kinds: []string{"object", "null"}}},
		{"volume_uuid", true, &schema{kinds: []string{"string"}, uuid: true}},
	}
	createAttachmentBody = envelope("attachment", &schema{kinds: []string{"object"}, closed: true,
		members: newAttachmentMembers})
	createAttachmentBody54 = envelope("attachment", &schema{kinds: []string{"object"}, closed: true,
		members: append(slices.Clone(newAttachmentMembers),
			property{"mode", false, &schema{kinds: []string{"string"}, enum: []string{"rw", "ro"}}})})
	updateAttachmentBody = envelope("attachment", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"connector", true, &schema{kinds: []string{"object"}, minMembers: 1}}}})

	attachmentActions = map[string]action{"os-complete": {always(anything), completeAttachment}}
)

func (c *call) attachmentID() block.AttachmentID { return block.AttachmentID(c.r.PathValue("id")) }

func createAttachment(c *call) error {
	o, err := c.checked("attachment", newAttachmentBodyOf(c.view.edition))
	if err != nil {
		return err
	}
	o = o.object("attachment")
	req := control.NewAttachment{VolumeID: *id[block.VolumeID](o, "volume_uuid"), ServerID: id[string](o, "instance_uuid")}
	if o.object("connector") != nil && len(o.object("connector").members) > 0 {
		req.Connector = connector(o)
	}
	if mode := o.text("mode"); mode != nil {
		req.Mode = *mode
	}
	a, err := c.s.cfg.Control.CreateAttachment(c.r.Context(), c.caller, req)
	return c.answerAttachment(a, err)
}

func (c *call) answerAttachment(a control.Attachment, err error) error {
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"attachment": attachmentDetail(a)})
}

func showAttachment(c *call) error {
	a, err := c.s.cfg.Control.Attachment(c.r.Context(), c.caller, c.attachmentID())
	return c.answerAttachment(a, err)
}

func updateAttachment(c *call) error {
	o, err := c.checked("attachment", updateAttachmentBody)
	if err != nil {
		return err
	}
	a, err := c.s.cfg.Control.UpdateAttachment(c.r.Context(), c.caller, c.attachmentID(),
		connector(o.object("attachment")))
	return c.answerAttachment(a, err)
}

func attachmentAction(c *call) error { return c.act(attachmentActions) }

func completeAttachment(c *call, _ *object) error {
	if err := c.s.cfg.Control.CompleteAttachment(c.r.Context(), c.caller, c.attachmentID()); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteAttachment answers with what the volume has still.
func deleteAttachment(c *call) error {
	left, err := c.s.cfg.Control.DeleteAttachment(c.r.Context(), c.caller, c.attachmentID())
	if err != nil {
		return err
	}
	rows := []map[string]any{}
	for _, a := range left {
		rows = append(rows, attachmentSummary(a))
	}
	return c.answer(http.StatusOK, map[string]any{"attachments": rows})
}

func listAttachments(c *call) error {
	return c.attachments("attachments", func(a control.Attachment) map[string]any {
		return attachmentSummary(a.Attachment)
	})
}

func listAttachmentsDetail(c *call) error {
	return c.attachments("attachments/detail", attachmentDetail)
}

func (c *call) attachments(collection string, show func(control.Attachment) map[string]any) error {
	p, err := c.page(attachmentList)
	if err != nil {
		return err
	}
	p.collection = collection
	var list []control.Attachment
	if !p.none {
		if list, err = c.s.cfg.Control.Attachments(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	rows := []map[string]any{}
	for _, a := range list {
		rows = append(rows, show(a))
	}
	document := map[string]any{"attachments": rows}
	if n := len(list); n > 0 && p.more(n) {
		document[p.of.name] = []link{{Rel: "next", Href: p.next(string(list[n-1].ID))}}
	}
	return c.answer(http.StatusOK, document)
}

func attachmentSummary(a block.Attachment) map[string]any {
	return map[string]any{"id": a.ID, "status": a.Status, "instance": a.ServerID, "volume_id": a.VolumeID}
}

// attachmentDetail shows an attachment in full; connection_info is flat here
// (cinder/api/v3/views/attachments.py).
func attachmentDetail(a control.Attachment) map[string]any {
	m := attachmentSummary(a.Attachment)
	m["attached_at"], m["detached_at"], m["attach_mode"] = timeOrBlank(a.AttachedAt), timeOrBlank(a.DetachedAt), a.Mode
	if a.Mode == "" {
		m["attach_mode"] = "null"
	}
	info := map[string]any{}
	if a.Info != nil {
		maps.Copy(info, a.Info.Data)
		info["driver_volume_type"], info["attachment_id"] = a.Info.DriverVolumeType, a.ID
		if a.Info.MountPointBase != "" {
			info["mount_point_base"] = a.Info.MountPointBase
		}
	}
	m["connection_info"] = info
	return m
}

func timeOrBlank(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeForm)
}
