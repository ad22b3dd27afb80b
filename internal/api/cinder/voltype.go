package cinder

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"kvol/internal/block"
	"kvol/internal/control"
)

func listTypes(c *call) error {
	p, err := c.page(typeList)
	if err != nil {
		return err
	}
	if err = c.onlyPublic(&p); err != nil {
		return err
	}
	c.onlyVisible(&p)
	var types []block.VolumeType
	if !p.none {
		if types, err = c.s.cfg.Control.Types(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("volume_types")
		e.open('[')
		for _, t := range types {
			c.view.volumeType(e, t)
		}
		e.close(']')
		if len(types) > 0 {
			p.links(e, len(types), string(types[len(types)-1].ID))
		}
		e.close('}')
	})
}

// onlyPublic reads is_public, which only administrators choose: public types
// unless they ask for private ones or, with None, for all (types.py,
// _parse_is_public).
func (c *call) onlyPublic(p *page) error {
	if !c.caller.Admin() {
		return nil
	}
	public := true
	if text, given := p.params.get("is_public"); given {
		if strings.EqualFold(text, "none") {
			delete(p.query.Filters, "is_public")
			return nil
		}
		var err error
		if public, err = p.params.flag("is_public"); err != nil {
			return invalid("Invalid is_public filter [%s]", text)
		}
	}
	p.query.Filters["is_public"] = strconv.FormatBool(public)
	return nil
}

// onlyVisible makes sure that nobody finds out by a filter what an extra spec is
// that they don't see: they find nothing.
func (c *call) onlyVisible(p *page) {
	if c.s.cfg.Control.SeesSpecs(c.caller) {
		return
	}
	for key := range p.query.Metadata {
		p.none = p.none || !slices.Contains(control.VisibleSpecs, key)
	}
}

func showType(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	t, err := c.s.cfg.Control.TypeByID(c.r.Context(), c.caller, id)
	return c.answerType(t, true, err)
}

func showDefaultType(c *call) error {
	t, err := c.s.cfg.Control.DefaultType(c.r.Context(), c.caller)
	return c.answerType(t, !c.view.v3, err)
}

// answerType answers with a type. access says whether /v3 shows the key of the
// extension os-volume-type-access, which it does not everywhere.
func (c *call) answerType(t block.VolumeType, access bool, err error) error {
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("volume_type")
		if c.view.v3 {
			c.view.volumeType3(e, t, access)
		} else {
			c.view.volumeType(e, t)
		}
		e.close('}')
	})
}

// specRows writes extra specs as rows of Kilo's table volume_type_extra_specs.
func specRows(e *encoder, t block.VolumeType) {
	e.key("extra_specs")
	e.open('[')
	for i, k := range slices.Sorted(maps.Keys(t.ExtraSpecs)) {
		e.open('{')
		e.stringMember("volume_type_id", string(t.ID))
		e.boolMember("deleted", false)
		e.timeMember("created_at", t.CreatedAt)
		e.timeMember("updated_at", t.UpdatedAt)
		e.nullMember("deleted_at")
		e.stringMember("value", t.ExtraSpecs[k])
		e.stringMember("key", k)
		e.wholeMember("id", int64(i+1))
		e.close('}')
	}
	e.close(']')
}
