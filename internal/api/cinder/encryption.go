package cinder

import (
	"net/http"

	"kvol/internal/api"
)

// showEncryption says how a volume is encrypted: none is here
// (cinder/api/contrib/volume_encryption_metadata.py).
func showEncryption(c *call) error {
	if _, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID()); err != nil {
		return err
	}
	return c.answer(http.StatusOK, map[string]any{"encryption_key_id": nil})
}

// showEncryptionItem answers one member of showEncryption as plain text.
func showEncryptionItem(c *call) error {
	if _, err := c.s.cfg.Control.Volume(c.r.Context(), c.caller, c.volumeID()); err != nil {
		return err
	}
	api.WriteRawJSON(c.w, http.StatusOK, nil)
	return nil
}
