package cinder

import (
	"net/http"
	"strconv"

	"kvol/internal/block"
	"kvol/internal/control"
)

// The bodies of encryption specs (cinder/api/schemas/volume_type_encryption.py).
var (
	createEncryptionBody = envelope("encryption", encryptionSpecs(true))
	updateEncryptionBody = envelope("encryption", encryptionSpecs(false))
)

func encryptionSpecs(required bool) *schema {
	return &schema{kinds: []string{"object"}, members: []property{
		{"key_size", false, &schema{kinds: []string{"string", "integer", "null"}, bounds: &[2]int64{0, maxInt},
			format: mustBeWhole}},
		{"provider", required, &schema{kinds: []string{"string"}, maxLen: 255}},
		{"control_location", required, &schema{kinds: []string{"string"},
			enum: []string{block.QoSFrontEnd, block.QoSBackEnd}}},
		{"cipher", false, textOrNone},
	}}
}

func mustBeWhole(v any) error {
	if v != nil {
		if _, err := strconv.ParseInt(pyStr(v), 10, 64); err != nil {
			return invalid("Invalid input received: key_size must be an integer.")
		}
	}
	return nil
}

func showTypeEncryption(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	e, ok, err := c.s.cfg.Control.TypeEncryption(c.r.Context(), c.caller, id)
	switch {
	case err != nil:
		return err
	case !ok:
		return c.answer(http.StatusOK, struct{}{})
	}
	return c.ok(func(enc *encoder) { writeTypeEncryption(enc, e) })
}

func writeTypeEncryption(enc *encoder, e block.TypeEncryption) {
	enc.open('{')
	enc.stringMember("volume_type_id", string(e.TypeID))
	enc.stringMember("encryption_id", e.ID)
	enc.stringMember("provider", e.Provider)
	enc.stringMember("control_location", e.ControlLocation)
	orNull(enc, "cipher", e.Cipher)
	if e.KeySize == nil {
		enc.nullMember("key_size")
	} else {
		enc.wholeMember("key_size", *e.KeySize)
	}
	enc.timeMember("created_at", e.CreatedAt)
	enc.timeMember("updated_at", e.UpdatedAt)
	enc.nullMember("deleted_at")
	enc.boolMember("deleted", false)
	enc.close('}')
}

// showTypeEncryptionItem answers with one member of showTypeEncryption.
func showTypeEncryptionItem(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	e, ok, err := c.s.cfg.Control.TypeEncryption(c.r.Context(), c.caller, id)
	if err != nil {
		return err
	}
	items := map[string]any{"encryption_id": e.ID, "provider": e.Provider, "control_location": e.ControlLocation,
		"cipher": e.Cipher, "key_size": e.KeySize, "volume_type_id": e.TypeID, "deleted": false}
	key := c.r.PathValue("key")
	value, known := items[key]
	if !ok || !known {
		return block.Errorf(block.NotFound, "Volume type encryption for type %s does not exist.", id)
	}
	return c.answer(http.StatusOK, map[string]any{key: value})
}

func createTypeEncryption(c *call) error {
	o, err := c.checked("encryption", createEncryptionBody)
	if err != nil {
		return err
	}
	id, err := c.typeID()
	if err != nil {
		return err
	}
	o = o.object("encryption")
	e, err := c.s.cfg.Control.CreateTypeEncryption(c.r.Context(), c.caller, block.TypeEncryption{TypeID: id,
		Provider: *o.text("provider"), ControlLocation: *o.text("control_location"), Cipher: o.text("cipher"),
		KeySize: o.whole("key_size")})
	if err != nil {
		return err
	}
	shown := encryptionGiven(o)
	shown["volume_type_id"], shown["encryption_id"] = e.TypeID, e.ID
	return c.answer(http.StatusOK, map[string]any{"encryption": shown})
}

// encryptionGiven are the members of encryption specs that a request has.
func encryptionGiven(o *object) map[string]any {
	given := map[string]any{}
	for _, name := range []string{"provider", "control_location", "cipher"} {
		if v, ok := o.get(name); ok {
			given[name] = v
		}
	}
	if _, ok := o.get("key_size"); ok {
		given["key_size"] = o.whole("key_size")
	}
	return given
}

func updateTypeEncryption(c *call) error {
	o, err := c.checked("encryption", updateEncryptionBody)
	if err != nil {
		return err
	}
	id, err := c.typeID()
	if err != nil {
		return err
	}
	o = o.object("encryption")
	change := control.EncryptionChange{Provider: o.text("provider"), ControlLocation: o.text("control_location"),
		KeySize: o.whole("key_size")}
	_, change.Cipher.Set = o.get("cipher")
	change.Cipher.Value = o.text("cipher")
	_, sized := o.get("key_size")
	change.NoKeySize = sized && change.KeySize == nil
	if err := c.s.cfg.Control.UpdateTypeEncryption(c.r.Context(), c.caller, id, change); err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"encryption": encryptionGiven(o)})
}

// deleteTypeEncryption forgets the encryption specs of a type, whatever the
// last step of the path says, as Cinder does.
func deleteTypeEncryption(c *call) error {
	id, err := c.typeID()
	if err != nil {
		return err
	}
	return c.accepted(c.s.cfg.Control.DeleteTypeEncryption(c.r.Context(), c.caller, id))
}
