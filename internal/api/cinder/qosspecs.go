package cinder

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"kvol/internal/block"
)

var qosList = listing{name: "qos_specs_links", path: "qos-specs", linkAsked: true,
	sort:    []string{"id", "name", "consumer", "created_at", "updated_at"},
	filters: []string{"id", "name", "consumer"}}

// The bodies of QoS specs (cinder/api/schemas/qos_specs.py).
var (
	createQoSBody = envelope("qos_specs", &schema{kinds: []string{"object"}, members: []property{
		{"name", true, &schema{kinds: []string{"string"}, format: mustBeQoSName}}}})
	updateQoSBody = envelope("qos_specs", newSpecs)
	qosKeysBody   = envelope("keys", &schema{kinds: []string{"array"}, unique: true,
		items: &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}})
)

// mustBeQoSName is a format of names (cinder/api/validation/validators.py,
// _validate_name_skip_leading_trailing_spaces).
func mustBeQoSName(v any) error {
	text, _ := v.(string)
	switch stripped := strings.TrimSpace(text); {
	case text == "":
		return invalid("An invalid 'name' value was provided. The 'name' can not be None.")
	case stripped == "":
		return invalid("An invalid 'name' value was provided. The 'name' can not be empty.")
	case utf8.RuneCountInString(stripped) > 255:
		return invalid("An invalid 'name' value was provided. The 'name' can not be greater than 255 characters.")
	}
	return nil
}

func (c *call) qosID() string { return c.r.PathValue("id") }

func listQoS(c *call) error {
	p, err := c.page(qosList)
	if err != nil {
		return err
	}
	if p.none {
		p.query.Limit = 0
	}
	all, err := c.s.cfg.Control.ListQoS(c.r.Context(), c.caller, p.query)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("qos_specs")
		e.open('[')
		for _, q := range all {
			writeQoS(e, q)
		}
		e.close(']')
		if len(all) > 0 {
			p.links(e, len(all), all[len(all)-1].ID)
		}
		e.close('}')
	})
}

func writeQoS(e *encoder, q block.QoSSpecs) {
	e.open('{')
	e.stringMember("id", q.ID)
	e.stringMember("name", q.Name)
	e.stringMember("consumer", q.Consumer)
	e.textsMember("specs", q.Specs)
	e.close('}')
}

// answerQoS answers with QoS specs; their links stand beside them.
func (c *call) answerQoS(q block.QoSSpecs, err error) error {
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("qos_specs")
		writeQoS(e, q)
		c.view.links(e, "qos-specs", q.ID)
		e.close('}')
	})
}

func showQoS(c *call) error {
	q, err := c.s.cfg.Control.QoS(c.r.Context(), c.caller, c.qosID())
	return c.answerQoS(q, err)
}

func createQoS(c *call) error {
	o, err := c.checked("qos_specs", createQoSBody)
	if err != nil {
		return err
	}
	o = o.object("qos_specs")
	q := block.QoSSpecs{Name: strings.TrimSpace(*o.text("name"))}
	rest := o.without("name")
	if err := checkTexts(rest); err != nil {
		return err
	}
	q.Specs = rest.allSpecs()
	q.Consumer = q.Specs["consumer"]
	delete(q.Specs, "consumer")
	q, err = c.s.cfg.Control.CreateQoS(c.r.Context(), c.caller, q)
	return c.answerQoS(q, err)
}

// checkTexts wants texts, and of a length that can be stored (cinder/utils.py,
// validate_dictionary_string_length).
func checkTexts(o *object) error {
	for _, m := range o.members {
		text, ok := m.value.(string)
		name, length := `Key "`+m.name+`"`, utf8.RuneCountInString(m.name)
		switch {
		case m.name == "":
			return invalid("Invalid input received: %s has 0 characters, less than 1.", name)
		case length > 255:
			return invalid("Invalid input received: %s has %d characters, more than 255.", name, length)
		case m.value != nil && !ok:
			return invalid(`Invalid input received: Value for key "%s" is not a string or unicode`, m.name)
		case utf8.RuneCountInString(text) > 255:
			return invalid(`Invalid input received: Value for key "%s" has %d characters, more than 255.`, m.name,
				utf8.RuneCountInString(text))
		}
	}
	return nil
}

func updateQoS(c *call) error {
	o, err := c.checked("qos_specs", updateQoSBody)
	if err != nil {
		return err
	}
	_, err = c.s.cfg.Control.UpdateQoS(c.r.Context(), c.caller, c.qosID(), o.specs("qos_specs"))
	return c.echo(o, err)
}

func deleteQoS(c *call) error {
	force, err := c.queryFlag("force")
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.DeleteQoS(c.r.Context(), c.caller, c.qosID(), force))
}

func deleteQoSKeys(c *call) error {
	o, err := c.checked("keys", qosKeysBody)
	if err != nil {
		return err
	}
	var keys []string
	list, _ := o.get("keys")
	for _, v := range list.([]any) {
		key, _ := v.(string)
		keys = append(keys, key)
	}
	return c.accepted(c.s.cfg.Control.DeleteQoSKeys(c.r.Context(), c.caller, c.qosID(), keys))
}

func listQoSTypes(c *call) error {
	types, err := c.s.cfg.Control.TypesOfQoS(c.r.Context(), c.caller, c.qosID())
	if err != nil {
		return err
	}
	all := []map[string]string{}
	for _, t := range types {
		all = append(all, map[string]string{"association_type": "volume_type", "name": t.Name, "id": string(t.ID)})
	}
	return c.answer(http.StatusOK, map[string]any{"qos_associations": all})
}

// associateQoS and disassociateQoS change things though they are a GET, as in
// Cinder.
func associateQoS(c *call) error {
	id, err := c.queryType()
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.AssociateQoS(c.r.Context(), c.caller, c.qosID(), id))
}

func disassociateQoS(c *call) error {
	id, err := c.queryType()
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.DisassociateQoS(c.r.Context(), c.caller, c.qosID(), id))
}

func disassociateQoSFromAll(c *call) error {
	return c.accepted(c.s.cfg.Control.DisassociateQoS(c.r.Context(), c.caller, c.qosID(), ""))
}

// queryType reads the type that a query names.
func (c *call) queryType() (block.TypeID, error) {
	ps, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return "", err
	}
	text, _ := ps.get("vol_type_id")
	if text == "" {
		return "", invalid("Volume Type id must not be None.")
	}
	id, ok := block.ParseID(text)
	if !ok {
		id = text // no type has it
	}
	return block.TypeID(id), nil
}
