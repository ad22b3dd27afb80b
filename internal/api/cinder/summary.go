package cinder

import (
	"maps"
	"slices"
)

// summarise answers what the volumes come to (3.12; metadata since 3.36).
func summarise(c *call) error {
	all, err := c.queryFlag("all_tenants")
	if err != nil {
		return err
	}
	sum, err := c.s.cfg.Control.Summary(c.r.Context(), c.caller, all)
	if err != nil {
		return err
	}
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("volume-summary")
		e.open('{')
		e.wholeMember("total_size", sum.GiB)
		e.wholeMember("total_count", sum.Count)
		if c.view.since(36) {
			e.key("metadata")
			e.open('{')
			for _, key := range slices.Sorted(maps.Keys(sum.Metadata)) {
				e.key(key)
				e.open('[')
				for _, text := range sum.Metadata[key] {
					e.text(text)
				}
				e.close(']')
			}
			e.close('}')
		}
		e.close('}')
		e.close('}')
	})
}
