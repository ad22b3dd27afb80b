package cinder

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

// The bodies of what administrators do with types (cinder/api/schemas/volume_types.py,
// types_extra_specs.py and volume_type_access.py).
var (
	textOrNone  = &schema{kinds: []string{"string", "null"}, maxLen: 255}
	typeName    = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255, format: mustHaveName}
	specKey     = regexp.MustCompile(`^[a-zA-Z0-9-_:.]{1,255}$`)
	newSpecs    = &schema{kinds: []string{"object"}, keys: metaKey, values: textOrNone}
	plainSpecs  = &schema{kinds: []string{"object"}, keys: specKey, values: textOrNone}
	oneSpecBody = &schema{kinds: []string{"object"}, keys: specKey, values: textOrNone, minMembers: 1, maxMembers: 1}

	createTypeBody = envelope("volume_type", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", true, typeName},
		{"description", false, textOrNone},
		{"extra_specs", false, newSpecs},
		{"os-volume-type-access:is_public", false, boolean},
	}})
	updateTypeBody = envelope("volume_type", &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"name", false, &schema{kinds: []string{"string", "null"}, minLen: 1, maxLen: 255}},
		{"description", false, textOrNone},
		{"is_public", false, boolean},
	}})
	specsBody  = envelope("extra_specs", plainSpecs)
	accessBody = &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"project", true, &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}}}}

	typeActions = map[string]action{
		"addProjectAccess":    {always(accessBody), changeAccess((*control.Service).GrantType)},
		"removeProjectAccess": {always(accessBody), changeAccess((*control.Service).DenyType)},
	}
)

// mustHaveName is the format of names (cinder/api/validation/validators.py,
// _validate_name).
func mustHaveName(v any) error {
	if text, ok := v.(string); ok && strings.TrimSpace(text) == "" {
		return invalid("An invalid 'name' value was provided. The 'name' can not be empty.")
	}
	return nil
}

// typeID reads the type in the path; a name is not an id (types.py, show).
func (c *call) typeID() (block.TypeID, error) {
	text := c.r.PathValue("id")
	id, ok := block.ParseID(text)
	if !ok {
		return "", block.Errorf(block.NotFound, "Volume type %s could not be found.", text)
	}
	return block.TypeID(id), nil
}

func createType(c *call) error {
	o, err := c.checked("volume_type", createTypeBody)
	if err != nil {
		return err
	}
	o = o.object("volume_type")
	t := block.VolumeType{Name: *o.text("name"), Description: o.text("description"), Public: true,
		ExtraSpecs: o.specs("extra_specs")}
	if _, given := o.get("os-volume-type-access:is_public"); given {
		t.Public = o.flag("os-volume-type-access:is_public")
	}
	t, err = c.s.cfg.Control.CreateType(c.r.Context(), c.caller, t)
	return c.answerManaged(t, true, err)
}

func updateType(c *call) error {
	o, err := c.checked("volume_type", updateTypeBody)
	if err != nil {
		return err
	}
	o = o.object("volume_type")
	change := control.TypeChange{Name: o.text("name"), Description: o.text("description")}
	if v, given := o.get("is_public"); given && v != nil {
		public := o.flag("is_public")
		change.Public = &public
	}
	switch {
	case change.Name != nil && strings.TrimSpace(*change.Name) == "":
		return invalid("Volume type name can not be empty.")
	case change == control.TypeChange{}:
		return invalid("Specify volume type name, description, is_public or a combination thereof.")
	}
	id, err := c.typeID()
	if err != nil {
		return err
	}
	t, err := c.s.cfg.Control.UpdateType(c.r.Context(), c.caller, id, change)
	return c.answerManaged(t, false, err)
}

// answerManaged answers with a type that was made or changed, which has fewer
// keys than one that is shown.
func (c *call) answerManaged(t block.VolumeType, access bool, err error) error {
	if err != nil || !c.view.v3 {
		return c.answerType(t, access, err)
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("volume_type")
		e.open('{')
		e.stringMember("id", string(t.ID))
		e.stringMember("name", t.Name)
		e.boolMember("is_public", t.Public)
		e.textsMember("extra_specs", t.ExtraSpecs)
		orNull(e, "description", t.Description)
		if access {
			e.boolMember("os-volume-type-access:is_public", t.Public)
		}
		e.close('}')
		e.close('}')
	})
}

func deleteType(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.DeleteType(c.r.Context(), c.caller, id))
}

func typeAction(c *call) error { return c.act(typeActions) }

func changeAccess(
	do func(*control.Service, context.Context, block.Caller, block.TypeID, block.ProjectID) error,
) func(*call, *object) error {
	return func(c *call, o *object) error {
		id, err := c.typeID()
		if err != nil {
			return err
		}
		return c.accepted(do(c.s.cfg.Control, c.r.Context(), c.caller, id, block.ProjectID(*o.text("project"))))
	}
}

func listTypeAccess(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	projects, err := c.s.cfg.Control.TypeAccess(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("volume_type_access")
		e.open('[')
		for _, p := range projects {
			e.open('{')
			e.stringMember("volume_type_id", string(id))
			e.stringMember("project_id", string(p))
			e.close('}')
		}
		e.close(']')
		e.close('}')
	})
}

func listExtraSpecs(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	specs, err := c.s.cfg.Control.ExtraSpecs(c.r.Context(), c.caller, id)
	return c.showTexts("extra_specs", specs, err)
}

func showExtraSpec(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	key := c.r.PathValue("key")
	value, err := c.s.cfg.Control.ExtraSpec(c.r.Context(), c.caller, id, key)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]string{key: value})
}

func createExtraSpecs(c *call) error {
	o, err := c.checked("extra_specs", specsBody)
	if err != nil {
		return err
	}
	id, err := c.typeID()
	if err != nil {
		return err
	}
	err = c.s.cfg.Control.SetExtraSpecs(c.r.Context(), c.caller, id, "create", o.specs("extra_specs"))
	return c.echo(o, err)
}

func updateExtraSpec(c *call) error {
	key := c.r.PathValue("key")
	o, err := c.checked(key, oneSpecBody)
	if err != nil {
		return err
	}
	id, err := c.typeID()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(o.members, func(m member) bool { return m.name == key }) {
		return invalid("Request body and URI mismatch")
	}
	return c.echo(o, c.s.cfg.Control.SetExtraSpecs(c.r.Context(), c.caller, id, "update", o.allSpecs()))
}

func deleteExtraSpec(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.DeleteExtraSpec(c.r.Context(), c.caller, id, c.r.PathValue("key")))
}

// specs reads a member with extra specs or keys of QoS specs. Null, which
// Cinder stores as such, is an empty text here.
func (o *object) specs(name string) map[string]string {
	inner := o.object(name)
	if inner == nil {
		return nil
	}
	return inner.allSpecs()
}

func (o *object) allSpecs() map[string]string {
	specs := make(map[string]string, len(o.members))
	for _, m := range o.members {
		specs[m.name], _ = m.value.(string)
	}
	return specs
}

// echo answers 200 with the request's body, as Cinder does after some changes.
func (c *call) echo(o *object, err error) error {
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, plain(o))
}
