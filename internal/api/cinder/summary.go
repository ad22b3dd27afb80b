package cinder

import (
	"maps"
	"slices"

	"kvol/internal/control"
)

// summarise answers what the volumes come to that fit the filters of a list
// (3.12; metadata since 3.36). Those that are not known are dropped in every
// microversion (cinder/api/v3/volumes.py, summary).
func summarise(c *call) error {
	of := volumeList
	of.strict = false
	p, err := c.page(of)
	if err != nil {
		return err
	}
	var sum control.Summary
	if !p.none || p.query.Limit == 0 {
		if sum, err = c.s.cfg.Control.Summary(c.r.Context(), c.caller, p.query); err != nil {
			return err
		}
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
