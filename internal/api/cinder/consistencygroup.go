package cinder

import (
	"net/http"

	"kvol/internal/block"
	"kvol/internal/control"
)

// The older API of groups (cinder/api/contrib/consistencygroups.py and
// cgsnapshots.py): a view of the same rows, which it makes of a type of its own.

var (
	legacyGroupList = listing{name: "consistencygroup_links", path: "consistencygroups", sort: groupList.sort,
		filters: []string{"name", "status"}}
	createLegacyBody = &schema{kinds: []string{"object"}, members: []property{
		{"consistencygroup", true, &schema{kinds: []string{"object"}, members: []property{
			{"name", false, shortText}, {"description", false, description}, {"volume_types", false, anything},
		}}}}}
	legacySourceBody = &schema{kinds: []string{"object"}, members: []property{
		{"consistencygroup-from-src", true, &schema{kinds: []string{"object"}, members: []property{
			{"name", false, shortText}, {"description", false, description},
			{"cgsnapshot_id", false, &schema{kinds: []string{"string", "null"}}},
			{"source_cgid", false, &schema{kinds: []string{"string", "null"}}},
		}}}}}
	updateLegacyBody = &schema{kinds: []string{"object"}, members: []property{
		{"consistencygroup", true, &schema{kinds: []string{"object"}, members: []property{
			{"name", false, shortText}, {"description", false, description},
			{"add_volumes", false, &schema{kinds: []string{"string", "null"}}},
			{"remove_volumes", false, &schema{kinds: []string{"string", "null"}}},
		}}}}}
	deleteLegacyBody = &schema{kinds: []string{"object"}, members: []property{
		{"consistencygroup", false, &schema{kinds: []string{"object"}, members: []property{{"force", false, boolean}}}}}}
	createLegacySnapshotBody = &schema{kinds: []string{"object"}, members: []property{
		{"cgsnapshot", true, &schema{kinds: []string{"object"}, members: []property{
			{"consistencygroup_id", true, &schema{kinds: []string{"string"}}},
			{"name", false, shortText}, {"description", false, description},
		}}}}}
)

func listLegacyGroups(c *call) error { return c.legacyGroups("consistencygroups", false) }

func listLegacyGroupsDetail(c *call) error { return c.legacyGroups("consistencygroups/detail", true) }

func (c *call) legacyGroups(collection string, full bool) error {
	p, err := c.page(legacyGroupList)
	if err != nil {
		return err
	}
	p.collection = collection
	var groups []control.Group
	if !p.none {
		if groups, err = c.s.cfg.Control.Groups(c.r.Context(), c.caller, p.query, false, true); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("consistencygroups")
		e.open('[')
		for _, g := range groups {
			if full {
				legacyGroupDetail(e, g)
			} else {
				nameOnly(e, string(g.ID), g.Name)
			}
		}
		e.close(']')
		if len(groups) > 0 {
			p.links(e, len(groups), string(groups[len(groups)-1].ID))
		}
		e.close('}')
	})
}

func legacyGroupDetail(e *encoder, g control.Group) {
	e.open('{')
	e.stringMember("id", string(g.ID))
	e.stringMember("status", string(g.Status))
	e.stringMember("availability_zone", g.AvailabilityZone)
	e.timeMember("created_at", g.CreatedAt)
	orNull(e, "name", g.Name)
	orNull(e, "description", g.Description)
	listMember(e, "volume_types", g.VolumeTypes)
	e.close('}')
}

func showLegacyGroup(c *call) error {
	g, err := c.s.cfg.Control.Group(c.r.Context(), c.caller, c.groupID(), false, true)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("consistencygroup")
		legacyGroupDetail(e, g)
		e.close('}')
	})
}

// createLegacyGroup takes the types as "a,b".
func createLegacyGroup(c *call) error {
	o, err := c.checked("consistencygroup", createLegacyBody)
	if err != nil {
		return err
	}
	o = o.object("consistencygroup")
	types := commaList(o.text("volume_types"))
	if len(types) == 0 {
		name, _ := o.get("name")
		return invalid("volume_types must be provided to create consistency group %s.", pyStr(name))
	}
	g, err := c.s.cfg.Control.CreateGroup(c.r.Context(), c.caller, control.NewGroup{Name: o.stripped("name"),
		Description: o.stripped("description"), VolumeTypes: types, AvailabilityZone: o.text("availability_zone"),
		Legacy: true})
	if err != nil {
		return err
	}
	return c.named(http.StatusAccepted, "consistencygroup", string(g.ID), g.Name)
}

func createLegacyGroupFrom(c *call) error {
	o, err := c.checked("consistencygroup-from-src", legacySourceBody)
	if err != nil {
		return err
	}
	o = o.object("consistencygroup-from-src")
	snapshot, group := nonEmpty(o.text("cgsnapshot_id")), nonEmpty(o.text("source_cgid"))
	name, _ := o.get("name")
	req := control.GroupSource{Name: o.stripped("name"), Description: o.stripped("description"), Legacy: true}
	switch {
	case snapshot == nil && group == nil:
		return invalid("Either 'cgsnapshot_id' or 'source_cgid' must be provided to create consistency group %s from "+
			"source.", pyStr(name))
	case snapshot != nil && group != nil:
		return invalid("Cannot provide both 'cgsnapshot_id' and 'source_cgid' to create consistency group %s from source.",
			pyStr(name))
	case snapshot != nil:
		from := block.GroupSnapshotID(*snapshot)
		req.Snapshot = &from
	default:
		from := block.GroupID(*group)
		req.Group = &from
	}
	g, err := c.s.cfg.Control.CreateGroupFrom(c.r.Context(), c.caller, req)
	if err != nil {
		return err
	}
	return c.named(http.StatusAccepted, "consistencygroup", string(g.ID), g.Name)
}

func updateLegacyGroup(c *call) error {
	o, err := c.checked("consistencygroup", updateLegacyBody)
	if err != nil {
		return err
	}
	change := groupChange(o.object("consistencygroup"))
	if nonEmpty(change.Name) == nil && nonEmpty(change.Description) == nil && len(change.Add)+len(change.Remove) == 0 {
		return invalid("Name, description, add_volumes, and remove_volumes can not be all empty in the request body.")
	}
	return c.accepted(c.s.cfg.Control.UpdateGroup(c.r.Context(), c.caller, c.groupID(), change, true))
}

// deleteLegacyGroup needs no body.
func deleteLegacyGroup(c *call) error {
	o, err := c.body()
	if err != nil {
		return err
	}
	force := false
	if o != nil {
		if err := deleteLegacyBody.check("", o); err != nil {
			return err
		}
		if inner := o.object("consistencygroup"); inner != nil {
			force = inner.flag("force")
		}
	}
	return c.accepted(c.s.cfg.Control.DeleteGroup(c.r.Context(), c.caller, c.groupID(), force, true))
}

func listLegacySnapshots(c *call) error { return c.legacySnapshots(false) }

func listLegacySnapshotsDetail(c *call) error { return c.legacySnapshots(true) }

func (c *call) legacySnapshots(full bool) error {
	list, err := c.s.cfg.Control.GroupSnapshots(c.r.Context(), c.caller,
		block.ListQuery{Project: c.caller.Own(), Limit: maxPage}, true)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("cgsnapshots")
		e.open('[')
		for _, gs := range list {
			if full {
				legacySnapshotDetail(e, gs)
			} else {
				nameOnly(e, string(gs.ID), gs.Name)
			}
		}
		e.close(']')
		e.close('}')
	})
}

func legacySnapshotDetail(e *encoder, gs block.GroupSnapshot) {
	e.open('{')
	e.stringMember("id", string(gs.ID))
	e.stringMember("consistencygroup_id", string(gs.Group))
	e.stringMember("status", string(gs.Status))
	e.timeMember("created_at", gs.CreatedAt)
	orNull(e, "name", gs.Name)
	orNull(e, "description", gs.Description)
	e.close('}')
}

func showLegacySnapshot(c *call) error {
	gs, err := c.s.cfg.Control.GroupSnapshot(c.r.Context(), c.caller, c.groupSnapshotID(), true)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("cgsnapshot")
		legacySnapshotDetail(e, gs)
		e.close('}')
	})
}

func createLegacySnapshot(c *call) error {
	o, err := c.checked("cgsnapshot", createLegacySnapshotBody)
	if err != nil {
		return err
	}
	o = o.object("cgsnapshot")
	gs, err := c.s.cfg.Control.CreateGroupSnapshot(c.r.Context(), c.caller, control.NewGroupSnapshot{
		Group: block.GroupID(*o.text("consistencygroup_id")), Name: o.stripped("name"),
		Description: o.stripped("description"), Legacy: true})
	if err != nil {
		return err
	}
	return c.named(http.StatusAccepted, "cgsnapshot", string(gs.ID), gs.Name)
}

func deleteLegacySnapshot(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteGroupSnapshot(c.r.Context(), c.caller, c.groupSnapshotID(), true))
}
