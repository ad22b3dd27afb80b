package cinder

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"kvol/internal/block"
	"kvol/internal/control"
)

var groupList = listing{name: "group_links", path: "groups", strict: true, aside: "list_volume",
	sort: []string{"id", "name", "description", "status", "availability_zone", "group_type_id", "created_at",
		"updated_at", "project_id", "user_id"},
	filters: []string{"name"}}

// The bodies of cinder/api/schemas/groups.py.
var (
	createGroupBody = envelope("group", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"group_type", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}},
		{"volume_types", true, &schema{kinds: []string{"array"}, filled: true, unique: true, items: metaValue}},
		{"name", false, shortText},
		{"description", false, description},
		{"availability_zone", false, zoneName},
	}})
	groupChanges = []property{
		{"name", false, shortText},
		{"description", false, description},
		{"add_volumes", false, &schema{kinds: []string{"string", "null"}}},
		{"remove_volumes", false, &schema{kinds: []string{"string", "null"}}},
	}
	updateGroupBody = envelope("group", &schema{kinds: []string{"object"}, closed: true, members: groupChanges,
		oneOf: namesOf(groupChanges)})
	groupSourceBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", false, shortText},
		{"description", false, description},
		{"source_group_id", false, &schema{kinds: []string{"string"}, uuid: true}},
		{"group_snapshot_id", false, &schema{kinds: []string{"string"}, uuid: true}},
	}}
	deleteGroupBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"delete-volumes", false, boolean}}}
	resetGroupBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"status", true, &schema{kinds: []string{"string"}}}}}
	failoverGroupBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"allow_attached_volume", false, boolean},
		{"secondary_backend_id", false, shortText},
	}}
	anObject = &schema{kinds: []string{"object"}}
)

var groupActions = map[string]action{
	"delete":                   {always(deleteGroupBody), deleteGroup},
	"reset_status":             {always(resetGroupBody), actionSince(20, resetGroup)},
	"enable_replication":       {always(anObject), actionSince(38, enableGroupReplication)},
	"disable_replication":      {always(anObject), actionSince(38, disableGroupReplication)},
	"failover_replication":     {always(failoverGroupBody), actionSince(38, failoverGroup)},
	"list_replication_targets": {always(anObject), actionSince(38, listGroupTargets)},
}

var groupsActions = map[string]action{"create-from-src": {always(groupSourceBody), createGroupFrom}}

func groupAction(c *call) error { return c.act(groupActions) }

func groupsAction(c *call) error { return c.act(groupsActions) }

// actionSince is from for actions.
func actionSince(since int, serve func(*call, *object) error) func(*call, *object) error {
	return func(c *call, o *object) error {
		if !c.view.since(since) {
			return errNoResource
		}
		return serve(c, o)
	}
}

func (c *call) groupID() block.GroupID { return block.GroupID(c.r.PathValue("id")) }

// wantsVolumes reports whether the volumes of groups are to be shown (3.25).
func (c *call) wantsVolumes() (bool, error) {
	if !c.view.since(25) {
		return false, nil
	}
	return c.queryFlag("list_volume")
}

func listGroups(c *call) error { return c.groups("groups", false) }

func listGroupsDetail(c *call) error { return c.groups("groups/detail", true) }

func (c *call) groups(collection string, full bool) error {
	p, err := c.page(groupList)
	if err != nil {
		return err
	}
	p.collection = collection
	volumes, err := c.wantsVolumes()
	if err != nil {
		return err
	}
	var groups []control.Group
	if !p.none {
		if groups, err = c.s.cfg.Control.Groups(c.r.Context(), c.caller, p.query, volumes && full, false); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("groups")
		e.open('[')
		for _, g := range groups {
			if full {
				c.view.group(e, g)
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

// named answers with a thing of which no more is shown than its name.
func (c *call) named(status int, kind, id string, name *string) error {
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key(kind)
		nameOnly(e, id, name)
		e.close('}')
	})
}

func nameOnly(e *encoder, id string, name *string) {
	e.open('{')
	e.stringMember("id", id)
	orNull(e, "name", name)
	e.close('}')
}

func showGroup(c *call) error {
	volumes, err := c.wantsVolumes()
	if err != nil {
		return err
	}
	g, err := c.s.cfg.Control.Group(c.r.Context(), c.caller, c.groupID(), volumes, false)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("group")
		c.view.group(e, g)
		e.close('}')
	})
}

func createGroup(c *call) error {
	o, err := c.checked("group", createGroupBody)
	if err != nil {
		return err
	}
	o = o.object("group")
	types, err := uniqueTexts(o, "volume_types")
	if err != nil {
		return err
	}
	g, err := c.s.cfg.Control.CreateGroup(c.r.Context(), c.caller, control.NewGroup{Name: o.stripped("name"),
		Description: o.stripped("description"), Type: *o.text("group_type"), VolumeTypes: types,
		AvailabilityZone: o.text("availability_zone")})
	if err != nil {
		return err
	}
	return c.named(http.StatusAccepted, "group", string(g.ID), g.Name)
}

// uniqueTexts reads an array of one or more texts, each once.
func uniqueTexts(o *object, name string) (texts []string, err error) {
	v, _ := o.get(name)
	list, _ := v.([]any)
	seen := map[string]bool{}
	for i, item := range list {
		text, ok := item.(string)
		switch {
		case !ok:
			return nil, invalid("Invalid input for field/attribute %d. Value: %s. %s is not of type 'string'", i,
				pyStr(item), pyRepr(item))
		case utf8.RuneCountInString(text) > 255:
			return nil, invalid("Invalid input for field/attribute %d. Value: %s. %s is too long", i, text, pyRepr(text))
		case seen[text]:
			return nil, invalid("Invalid input for field/attribute %s. Value: %s. %s has non-unique elements", name,
				pyStr(v), pyRepr(v))
		}
		seen[text] = true
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, invalid("Invalid input for field/attribute %s. Value: []. [] is too short", name)
	}
	return texts, nil
}

func createGroupFrom(c *call, o *object) error {
	if !c.view.since(14) {
		return errNoResource
	}
	req := control.GroupSource{Name: o.stripped("name"), Description: o.stripped("description"),
		Snapshot: id[block.GroupSnapshotID](o, "group_snapshot_id"), Group: id[block.GroupID](o, "source_group_id")}
	if (req.Snapshot == nil) == (req.Group == nil) {
		return invalid("Invalid input for field/attribute create-from-src. Value: %s. %s is not valid under any of the "+
			"given schemas", pyStr(o), pyRepr(o))
	}
	g, err := c.s.cfg.Control.CreateGroupFrom(c.r.Context(), c.caller, req)
	if err != nil {
		return err
	}
	return c.named(http.StatusAccepted, "group", string(g.ID), g.Name)
}

func updateGroup(c *call) error {
	o, err := c.checked("group", updateGroupBody)
	if err != nil {
		return err
	}
	o = o.object("group")
	if len(o.members) == 0 {
		return invalid("Invalid input for field/attribute group. Value: {}. {} is not valid under any of the given schemas")
	}
	return c.accepted(c.s.cfg.Control.UpdateGroup(c.r.Context(), c.caller, c.groupID(), groupChange(o), false))
}

func groupChange(o *object) control.GroupChange {
	return control.GroupChange{Name: o.stripped("name"), Description: o.stripped("description"),
		Add: commaList(o.text("add_volumes")), Remove: commaList(o.text("remove_volumes"))}
}

// commaList reads "a,b"; nil and "" are none.
func commaList(text *string) []string {
	if text == nil || strings.Trim(*text, ",") == "" {
		return nil
	}
	return strings.Split(strings.Trim(*text, ","), ",")
}

func deleteGroup(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.DeleteGroup(c.r.Context(), c.caller, c.groupID(), o.flag("delete-volumes"), false))
}

func resetGroup(c *call, o *object) error {
	return c.accepted(c.s.cfg.Control.ResetGroupStatus(c.r.Context(), c.caller, c.groupID(), *o.text("status")))
}

func enableGroupReplication(c *call, _ *object) error {
	return c.accepted(c.s.cfg.Control.EnableGroupReplication(c.r.Context(), c.caller, c.groupID()))
}

func disableGroupReplication(c *call, _ *object) error {
	return c.accepted(c.s.cfg.Control.DisableGroupReplication(c.r.Context(), c.caller, c.groupID()))
}

func failoverGroup(c *call, o *object) error {
	to := block.Zone("")
	if named := o.text("secondary_backend_id"); named != nil {
		to = block.Zone(*named)
	}
	return c.accepted(c.s.cfg.Control.FailoverGroup(c.r.Context(), c.caller, c.groupID(), to,
		o.flag("allow_attached_volume")))
}

func listGroupTargets(c *call, _ *object) error {
	zones, err := c.s.cfg.Control.GroupReplicationTargets(c.r.Context(), c.caller, c.groupID())
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("replication_targets")
		e.open('[')
		for _, z := range zones {
			e.open('{')
			e.stringMember("backend_id", string(z))
			e.close('}')
		}
		e.close(']')
		e.close('}')
	})
}

// group writes a group in full (cinder/api/v3/views/groups.py).
func (v view) group(e *encoder, g control.Group) {
	e.open('{')
	e.stringMember("id", string(g.ID))
	e.stringMember("status", string(g.Status))
	e.stringMember("availability_zone", g.AvailabilityZone)
	e.timeMember("created_at", g.CreatedAt)
	orNull(e, "name", g.Name)
	orNull(e, "description", g.Description)
	e.stringMember("group_type", string(g.Type))
	listMember(e, "volume_types", g.VolumeTypes)
	if v.since(14) {
		orNull(e, "group_snapshot_id", g.GroupSnapshotID)
		orNull(e, "source_group_id", g.SourceGroupID)
	}
	if v.since(25) && g.Volumes != nil {
		listMember(e, "volumes", g.Volumes)
	}
	if v.since(38) {
		e.stringMember("replication_status", g.Replication)
	}
	if v.since(58) && v.shows.see(partGroupProject) {
		e.stringMember("project_id", string(g.Project))
	}
	e.close('}')
}

// listMember writes an array of strings.
func listMember[T ~string](e *encoder, name string, list []T) {
	e.key(name)
	e.open('[')
	for _, item := range list {
		e.text(string(item))
	}
	e.close(']')
}
