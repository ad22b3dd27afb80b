package cinder

import (
	"net/http"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

var groupTypeList = listing{name: "group_type_links", path: "group_types",
	sort: []string{"id", "name", "description", "created_at", "updated_at", "is_public"}}

// The bodies of cinder/api/schemas/group_types.py and group_specs.py.
var (
	specValue      = &schema{kinds: []string{"string", "null"}, maxLen: 255}
	groupSpecsBody = envelope("group_specs", &schema{kinds: []string{"object"}, keys: specKey, values: specValue})
	groupSpecBody  = &schema{kinds: []string{"object"}, keys: specKey, values: specValue, minMembers: 1,
		maxMembers: 1}
	createGroupTypeBody = envelope("group_type", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", true, typeName},
		{"description", false, description},
		{"is_public", false, boolean},
		{"group_specs", false, &schema{kinds: []string{"object", "null"}, keys: metaKey, values: metaValue}},
	}})
	updateGroupTypeBody = envelope("group_type", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", false, shortText},
		{"description", false, description},
		{"is_public", false, boolean},
	}})
)

func (c *call) groupTypeID() block.GroupTypeID { return block.GroupTypeID(c.r.PathValue("id")) }

func listGroupTypes(c *call) error {
	p, err := c.page(groupTypeList)
	if err != nil {
		return err
	}
	if err := c.onlyPublic(&p); err != nil {
		return err
	}
	var types []block.GroupType
	if !p.none {
		if types, err = c.s.cfg.Control.GroupTypes(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("group_types")
		e.open('[')
		for _, t := range types {
			c.groupType(e, t)
		}
		e.close(']')
		if len(types) > 0 {
			p.links(e, len(types), string(types[len(types)-1].ID))
		}
		e.close('}')
	})
}

// groupType writes a type of groups; what it is made of is for those who may see
// that (cinder/api/v3/views/group_types.py).
func (c *call) groupType(e *encoder, t block.GroupType) {
	e.open('{')
	e.stringMember("id", string(t.ID))
	e.stringMember("name", t.Name)
	orNull(e, "description", t.Description)
	e.boolMember("is_public", t.Public)
	if c.s.cfg.Control.SeesGroupSpecs(c.caller) {
		e.textsMember("group_specs", t.Specs)
	}
	e.close('}')
}

func (c *call) groupTypeAs(status int, t block.GroupType, err error) error {
	if err != nil {
		return err
	}
	return c.document(status, func(e *encoder) {
		e.open('{')
		e.key("group_type")
		c.groupType(e, t)
		e.close('}')
	})
}

func showGroupType(c *call) error {
	name := c.r.PathValue("id")
	if _, ok := block.ParseID(name); !ok { // a name is not an id
		return block.Errorf(block.NotFound, "Group type %s could not be found.", name)
	}
	t, err := c.s.cfg.Control.GroupType(c.r.Context(), c.caller, name)
	return c.groupTypeAs(http.StatusOK, t, err)
}

// showDefaultGroupType: no type of groups is the default
// (cinder's option default_group_type).
func showDefaultGroupType(*call) error {
	return block.Errorf(block.NotFound, "Default group type can not be found.")
}

func createGroupType(c *call) error {
	o, err := c.checked("group_type", createGroupTypeBody)
	if err != nil {
		return err
	}
	o = o.object("group_type")
	t := block.GroupType{Name: *o.text("name"), Description: o.stripped("description"), Public: true,
		Specs: o.texts("group_specs")}
	if v, given := o.get("is_public"); given && v != nil {
		t.Public = o.flag("is_public")
	}
	t, err = c.s.cfg.Control.CreateGroupType(c.r.Context(), c.caller, t)
	return c.groupTypeAs(http.StatusAccepted, t, err)
}

func updateGroupType(c *call) error {
	o, err := c.checked("group_type", updateGroupTypeBody)
	if err != nil {
		return err
	}
	o = o.object("group_type")
	change := control.GroupTypeChange{Name: o.text("name"), Description: o.stripped("description")}
	if _, given := o.get("is_public"); given {
		public := o.flag("is_public")
		change.Public = &public
	}
	switch {
	case change.Name != nil && *change.Name != "" && strings.TrimSpace(*change.Name) == "":
		return invalid("Group type name can not be empty.")
	case change.Name != nil && *change.Name == "": // as if it were not given
		change.Name = nil
	}
	if change.Name == nil && change.Description == nil && change.Public == nil {
		return invalid("Specify group type name, description or a combination thereof.")
	}
	t, err := c.s.cfg.Control.UpdateGroupType(c.r.Context(), c.caller, c.groupTypeID(), change)
	return c.groupTypeAs(http.StatusOK, t, err)
}

func deleteGroupType(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteGroupType(c.r.Context(), c.caller, c.groupTypeID()))
}

func listGroupSpecs(c *call) error {
	specs, err := c.s.cfg.Control.GroupSpecs(c.r.Context(), c.caller, c.groupTypeID(), "get_all")
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"group_specs": specs})
}

func createGroupSpecs(c *call) error {
	o, err := c.checked("group_specs", groupSpecsBody)
	if err != nil {
		return err
	}
	specs := o.texts("group_specs")
	if err := c.s.cfg.Control.SetGroupSpecs(c.r.Context(), c.caller, c.groupTypeID(), "create", specs); err != nil {
		return err
	}
	return c.answer(http.StatusAccepted, map[string]any{"group_specs": specs})
}

func showGroupSpec(c *call) error {
	key := c.r.PathValue("key")
	specs, err := c.s.cfg.Control.GroupSpecs(c.r.Context(), c.caller, c.groupTypeID(), "get")
	if err != nil {
		return err
	}
	value, ok := specs[key]
	if !ok {
		return block.Errorf(block.NotFound, "Group Type %s has no extra spec with key %s.", c.groupTypeID(), key)
	}
	return c.answer(http.StatusOK, map[string]string{key: value})
}

// updateGroupSpec sets the one item that both the path and the body name.
func updateGroupSpec(c *call) error {
	o, err := c.checked(c.r.PathValue("key"), groupSpecBody)
	if err != nil {
		return err
	}
	key := c.r.PathValue("key")
	value := o.text(key)
	if value == nil {
		return invalid("Request body and URI mismatch")
	}
	specs := map[string]string{key: *value}
	if err := c.s.cfg.Control.SetGroupSpecs(c.r.Context(), c.caller, c.groupTypeID(), "update", specs); err != nil {
		return err
	}
	return c.answer(http.StatusOK, specs)
}

func deleteGroupSpec(c *call) error {
	return c.accepted(c.s.cfg.Control.DeleteGroupSpec(c.r.Context(), c.caller, c.groupTypeID(), c.r.PathValue("key")))
}
