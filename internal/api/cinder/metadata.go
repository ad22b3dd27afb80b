package cinder

import (
	"net/http"

	"kvol/internal/block"
)

// holder is what carries metadata: volumes and snapshots, which differ only in
// whom they ask.
type holder struct {
	noun   string // as error sentences begin
	tagged bool   // has an ETag since 3.15
	get    func(*call) (map[string]string, error)
	// add is what POST does; set with replace false where it is nil.
	add    func(c *call, m map[string]string) (map[string]string, error)
	set    func(c *call, m map[string]string, replace bool) (map[string]string, error)
	remove func(c *call, key string) error
}

var volumeMetadata = holder{
	noun: "Volume", tagged: true,
	get: func(c *call) (map[string]string, error) {
		return c.s.cfg.Control.VolumeMetadata(c.r.Context(), c.caller, c.volumeID())
	},
	add: func(c *call, m map[string]string) (map[string]string, error) {
		return c.s.cfg.Control.AddVolumeMetadata(c.r.Context(), c.caller, c.volumeID(), m)
	},
	set: func(c *call, m map[string]string, replace bool) (map[string]string, error) {
		return c.s.cfg.Control.SetVolumeMetadata(c.r.Context(), c.caller, c.volumeID(), m, replace)
	},
	remove: func(c *call, key string) error {
		return c.s.cfg.Control.DeleteVolumeMetadata(c.r.Context(), c.caller, c.volumeID(), key)
	},
}

var snapshotMetadata = holder{
	noun: "Snapshot",
	get: func(c *call) (map[string]string, error) {
		return c.s.cfg.Control.SnapshotMetadata(c.r.Context(), c.caller, c.snapshotID())
	},
	set: func(c *call, m map[string]string, replace bool) (map[string]string, error) {
		return c.s.cfg.Control.SetSnapshotMetadata(c.r.Context(), c.caller, c.snapshotID(), m, replace)
	},
	remove: func(c *call, key string) error {
		return c.s.cfg.Control.DeleteSnapshotMetadata(c.r.Context(), c.caller, c.snapshotID(), key)
	},
}

// showTexts answers 200 with an object of strings under a name.
func (c *call) showTexts(name string, m map[string]string, err error) error {
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.textsMember(name, m)
		e.close('}')
	})
}

func showMetadata(h holder) func(*call) error {
	return func(c *call) error {
		m, err := h.get(c)
		if err == nil && h.tagged && c.view.since(15) {
			c.w.Header().Set("Etag", entityTag(m))
		}
		return c.showTexts("metadata", m, err)
	}
}

// asExpected keeps a condition that a change came with, which PUT may: where it does
// not hold, ok is false and the request is answered.
func (h holder) asExpected(c *call) (ok bool, err error) {
	if !h.tagged || !c.view.since(15) || c.r.Header.Get("If-Match") == "" {
		return true, nil
	}
	have, err := h.get(c)
	if err != nil {
		return false, err
	}
	if unchanged(c.r, entityTag(have)) {
		return true, nil
	}
	return false, c.empty(http.StatusPreconditionFailed)
}

func writeMetadata(h holder, replace bool) func(*call) error {
	return func(c *call) error {
		o, err := c.checked("metadata", metadataBody)
		if err != nil {
			return err
		}
		if replace {
			if ok, err := h.asExpected(c); err != nil || !ok {
				return err
			}
		}
		if !replace && h.add != nil {
			m, err := h.add(c, o.texts("metadata"))
			return c.showTexts("metadata", m, err)
		}
		m, err := h.set(c, o.texts("metadata"), replace)
		return c.showTexts("metadata", m, err)
	}
}

func showMetadataItem(h holder) func(*call) error {
	return func(c *call) error {
		m, err := h.get(c)
		if err != nil {
			return err
		}
		key := c.r.PathValue("key")
		text, ok := m[key]
		if !ok {
			return block.Errorf(block.NotFound, "%s %s has no metadata with key %s.", h.noun, c.r.PathValue("id"), key)
		}
		return c.showTexts("meta", map[string]string{key: text}, nil)
	}
}

func writeMetadataItem(h holder) func(*call) error {
	return func(c *call) error {
		o, err := c.checked("meta", metaItemBody)
		if err != nil {
			return err
		}
		if ok, err := h.asExpected(c); err != nil || !ok {
			return err
		}
		item, key := o.texts("meta"), c.r.PathValue("key")
		text, ok := item[key]
		if !ok {
			return invalid("Request body and URI mismatch")
		}
		if len(item) > 1 {
			return invalid("Request body contains too many items")
		}
		if _, err = h.set(c, map[string]string{key: text}, false); err != nil {
			return err
		}
		return c.showTexts("meta", item, nil)
	}
}

func deleteMetadataItem(h holder) func(*call) error {
	return func(c *call) error {
		if err := h.remove(c, c.r.PathValue("key")); err != nil {
			return err
		}
		return c.empty(http.StatusOK)
	}
}
