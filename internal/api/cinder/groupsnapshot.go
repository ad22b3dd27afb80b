package cinder

import (
	"net/http"

	"kvol/internal/block"
	"kvol/internal/control"
)

var groupSnapshotList = listing{name: "group_snapshot_links", path: "group_snapshots", strict: true,
	sort: []string{"id", "name", "description", "status", "group_id", "group_type_id", "created_at", "updated_at",
		"project_id", "user_id"},
	filters: []string{"name", "status", "group_id"}}

var createGroupSnapshotBody = envelope("group_snapshot", &schema{kinds: []string{"object"}, closed: true,
	members: []property{
		{"group_id", true, &schema{kinds: []string{"string"}, uuid: true}},
		{"name", false, shortText},
		{"description", false, description},
	}})

var groupSnapshotActions = map[string]action{
	"reset_status": {always(resetGroupBody), actionSince(19, resetGroupSnapshot)},
}

func groupSnapshotAction(c *call) error { return c.act(groupSnapshotActions) }

func (c *call) groupSnapshotID() block.GroupSnapshotID {
	return block.GroupSnapshotID(c.r.PathValue("id"))
}

func listGroupSnapshots(c *call) error { return c.groupSnapshots("group_snapshots", false) }

func listGroupSnapshotsDetail(c *call) error { return c.groupSnapshots("group_snapshots/detail", true) }

// groupSnapshots lists group snapshots. Before 3.29 they could be neither
// filtered nor paged.
func (c *call) groupSnapshots(collection string, full bool) error {
	p := page{of: groupSnapshotList, query: block.ListQuery{Project: c.caller.Own(), Limit: maxPage},
		base: c.view.root}
	if c.view.since(29) {
		var err error
		if p, err = c.page(groupSnapshotList); err != nil {
			return err
		}
	}
	p.collection = collection
	var list []block.GroupSnapshot
	if !p.none {
		var err error
		if list, err = c.s.cfg.Control.GroupSnapshots(c.r.Context(), c.caller, p.query, false); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("group_snapshots")
		e.open('[')
		for _, gs := range list {
			if full {
				c.view.groupSnapshot(e, gs)
			} else {
				nameOnly(e, string(gs.ID), gs.Name)
			}
		}
		e.close(']')
		if len(list) > 0 {
			p.links(e, len(list), string(list[len(list)-1].ID))
		}
		e.close('}')
	})
}

func showGroupSnapshot(c *call) error {
	gs, err := c.s.cfg.Control.GroupSnapshot(c.r.Context(), c.caller, c.groupSnapshotID(), false)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("group_snapshot")
		c.view.groupSnapshot(e, gs)
		e.close('}')
	})
}

// createGroupSnapshot answers with the type too, as Cinder does here and nowhere
// else where a summary is shown.
func createGroupSnapshot(c *call) error {
	o, err := c.checked("group_snapshot", createGroupSnapshotBody)
	if err != nil {
		return err
	}
	o = o.object("group_snapshot")
	gs, err := c.s.cfg.Control.CreateGroupSnapshot(c.r.Context(), c.caller, control.NewGroupSnapshot{
		Group: *id[block.GroupID](o, "group_id"), Name: o.stripped("name"), Description: o.stripped("description")})
	if err != nil {
		return err
	}
	return c.document(http.StatusAccepted, func(e *encoder) {
		e.open('{')
		e.key("group_snapshot")
		e.open('{')
		e.stringMember("id", string(gs.ID))
		orNull(e, "name", gs.Name)
		e.stringMember("group_type_id", string(gs.Type))
		e.close('}')
		e.close('}')
	})
}

func deleteGroupSnapshot(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteGroupSnapshot(c.r.Context(), c.caller, c.groupSnapshotID(), false))
}

func resetGroupSnapshot(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.ResetGroupSnapshotStatus(c.r.Context(), c.caller, c.groupSnapshotID(),
		*o.text("status")))
}

// groupSnapshot writes a group snapshot in full
// (cinder/api/v3/views/group_snapshots.py).
func (v view) groupSnapshot(e *encoder, gs block.GroupSnapshot) {
	e.open('{')
	e.stringMember("id", string(gs.ID))
	e.stringMember("group_id", string(gs.Group))
	e.stringMember("group_type_id", string(gs.Type))
	e.stringMember("status", string(gs.Status))
	e.timeMember("created_at", gs.CreatedAt)
	orNull(e, "name", gs.Name)
	orNull(e, "description", gs.Description)
	if v.since(58) && v.shows.see(partGroupSnapshotProject) {
		e.stringMember("project_id", string(gs.Project))
	}
	e.close('}')
}
