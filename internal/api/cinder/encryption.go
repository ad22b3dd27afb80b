package cinder

import (
	"net/http"
	"strconv"

	"kvol/internal/api"
	"kvol/internal/block"
)

// showEncryption says how a volume is encrypted
// (cinder/api/contrib/volume_encryption_metadata.py).
func showEncryption(c *call) error {
	items, err := encryptionItems(c)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, items)
}

func encryptionItems(c *call) (map[string]any, error) {
	e, err := c.s.cfg.Control.VolumeEncryption(c.r.Context(), c.caller, c.volumeID())
	if err != nil {
		return nil, err
	}
	if e == nil {
		return map[string]any{"encryption_key_id": nil}, nil
	}
	name, ok := c.s.cfg.keyName(e.Key)
	if !ok {
		return nil, block.Errorf(block.Unavailable, "The key of volume %s is not in the key manager yet.", c.volumeID())
	}
	return map[string]any{"encryption_key_id": name, "control_location": e.ControlLocation, "cipher": e.Cipher,
		"key_size": e.KeySize, "provider": e.Provider}, nil
}

// showEncryptionItem answers one member of showEncryption as plain text.
func showEncryptionItem(c *call) error {
	items, err := encryptionItems(c)
	if err != nil {
		return err
	}
	api.WriteRawJSON(c.w, http.StatusOK, []byte(itemText(items[c.r.PathValue("key")])))
	return nil
}

func itemText(item any) string {
	switch item := item.(type) {
	case *string:
		if item != nil {
			return *item
		}
	case *int64:
		if item != nil {
			return strconv.FormatInt(*item, 10)
		}
	case string:
		return item
	case block.SecretID:
		return string(item)
	}
	return ""
}
