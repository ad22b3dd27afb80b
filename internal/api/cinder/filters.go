package cinder

// filterable are the collections that can be filtered, in Cinder's order and
// with its names.
var filterable = []struct {
	resource string
	filters  []string
}{
	{"volume", volumeList.filters},
	{"backup", backupList.filters},
	{"snapshot", snapshotList.filters},
	{"group", groupList.filters},
	{"group_snapshot", groupSnapshotList.filters},
	{"attachment", attachmentList.filters},
	{"message", messageList.filters},
	{"pool", []string{"name", "volume_type"}},
	{"volume_type", []string{"is_public", "extra_specs"}},
}

// listResourceFilters says by what collections can be filtered (3.33): all of
// them, or the one that is named.
func listResourceFilters(c *call) error {
	ps, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	wanted, given := ps.get("resource")
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("resource_filters")
		e.open('[')
		for _, r := range filterable {
			if given && r.resource != wanted {
				continue
			}
			e.open('{')
			e.stringMember("resource", r.resource)
			e.key("filters")
			e.open('[')
			for _, name := range r.filters {
				e.text(name)
			}
			e.close(']')
			e.close('}')
		}
		e.close(']')
		e.close('}')
	})
}
