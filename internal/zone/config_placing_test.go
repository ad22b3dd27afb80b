package zone

import (
	"strings"
	"testing"
)

// TestPlacingConfig: backends that share a name, zones, capabilities and bounds
// reach the rules, and what could not work is refused with a sentence.
func TestPlacingConfig(t *testing.T) {
	const good = `
zone: a
listen: 127.0.0.1:0
availability_zones: [x, y]
placement: {capacity_weight_multiplier: -1, allocated_capacity_weight_multiplier: -0.5, scheduler_max_attempts: 5}
stores:
  - {name: s, driver: mem, reserved_percentage: 5, max_over_subscription_ratio: 2.5}
  - {name: r, driver: mem, max_over_subscription_ratio: auto}
  - {name: q, driver: mem}
backends:
  - {name: b1, store: s, volume_backend_name: ssd, availability_zones: [x], capabilities: {disk: nvme}}
  - {name: b2, store: r, volume_backend_name: ssd}
  - {name: b3, store: q}
volume_types:
  - {id: 11111111-1111-4111-8111-111111111111, name: t, extra_specs: {volume_backend_name: ssd}}
  - {id: 22222222-2222-4222-8222-222222222222, name: u, extra_specs: {volume_backend_name: "<or> b1 <or> b3"}}
  - {id: 33333333-3333-4333-8333-333333333333, name: v}
`
	c, err := ParseConfig([]byte(good), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := c.placing()
	b1, b2, b3 := p.Backends["b1"], p.Backends["b2"], p.Backends["b3"]
	if p.Attempts != 5 || p.Weights.Capacity != -1 || p.Weights.Allocated != -0.5 || b1.Name != "ssd" ||
		b1.Zones[0] != "x" ||
		b1.Capabilities["disk"] != "nvme" || b1.Reserved != 5 || b1.Ratio != 2.5 || b1.Auto || !b2.Auto || b2.Ratio != 0 ||
		b3.Ratio != 0 ||
		b3.Auto ||
		b3.Name != "" {
		t.Errorf("%+v", p)
	}
	for was, now := range map[string]string{
		"reserved_percentage: 5": "reserved_percentage: 100", "ratio: 2.5": "ratio: 0.5", "ratio: auto": "ratio: lots",
		"zones: [x], ": "zones: [z], ", "disk: nvme": "replication_enabled: nvme", "<or> b3": "<or> b4>",
		"{volume_backend_name: ssd}": "{volume_backend_name: none}", "max_attempts: 5": "max_attempts: -5",
	} {
		text := strings.Replace(good, was, now, 1)
		if was == "<or> b3" {
			text = strings.Replace(good, `"<or> b1 <or> b3"`, `"<or> b4 <or> b5"`, 1)
		}
		if _, err := ParseConfig([]byte(text), t.TempDir()); err == nil || text == good {
			t.Errorf("%s was taken", now)
		}
	}
}
