package cinder

import (
	"net/http"

	"kvol/internal/block"
)

// setDefaultBody is the body of PUT /default-types/{project}
// (cinder/api/schemas/default_types.py).
var setDefaultBody = &schema{kinds: []string{"object"}, members: []property{
	{"default_type", true, &schema{kinds: []string{"object"}, closed: true, members: []property{
		{"volume_type", true, typeName}}}}}}

// defaultFault is the answer to a caller that may not, in the words of these
// operations (cinder/api/api_utils.py, validate_project_and_authorize).
func defaultFault(err error) error {
	if block.Is(err, block.Forbidden) {
		return block.Wrap(block.Forbidden, err, "You are not authorized to perform this operation.")
	}
	return err
}

type defaultType struct {
	Project block.ProjectID `json:"project_id"`
	Type    block.TypeID    `json:"volume_type_id"`
}

func (c *call) answerDefault(d block.DefaultType, err error) error {
	if err != nil {
		return defaultFault(err)
	}
	return c.answer(http.StatusOK, map[string]defaultType{"default_type": defaultType(d)})
}

func listDefaultTypes(c *call) error {
	all, err := c.s.cfg.Control.DefaultTypes(c.r.Context(), c.caller)
	if err != nil {
		return defaultFault(err)
	}
	shown := []defaultType{}
	for _, d := range all {
		shown = append(shown, defaultType(d))
	}
	return c.answer(http.StatusOK, map[string][]defaultType{"default_types": shown})
}

func showProjectDefaultType(c *call) error {
	d, err := c.s.cfg.Control.ProjectDefaultType(c.r.Context(), c.caller, c.target())
	return c.answerDefault(d, err)
}

func setDefaultType(c *call) error {
	o, err := c.checked("default_type", setDefaultBody)
	if err != nil {
		return err
	}
	if err := checkLength("project_id", string(c.target())); err != nil {
		return err
	}
	name := *o.object("default_type").text("volume_type")
	d, err := c.s.cfg.Control.SetDefaultType(c.r.Context(), c.caller, c.target(), name)
	return c.answerDefault(d, err)
}

func unsetDefaultType(c *call) error {
	if err := c.s.cfg.Control.UnsetDefaultType(c.r.Context(), c.caller, c.target()); err != nil {
		return defaultFault(err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
