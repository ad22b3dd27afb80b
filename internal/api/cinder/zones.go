package cinder

func listAvailabilityZones(c *call) error {
	zones := c.s.cfg.Control.AvailabilityZones(c.r.Context(), c.caller)
	return c.ok(func(e *encoder) {
		e.open('{')
		e.key("availabilityZoneInfo")
		e.open('[')
		for _, z := range zones {
			e.open('{')
			e.stringMember("zoneName", z.Name)
			e.key("zoneState")
			e.open('{')
			e.boolMember("available", z.Available)
			e.close('}')
			e.close('}')
		}
		e.close(']')
		e.close('}')
	})
}
