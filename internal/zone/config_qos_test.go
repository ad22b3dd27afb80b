package zone

import (
	"strings"
	"testing"
	"time"
)

const limitedZone = `
zone: a
listen: 127.0.0.1:0
stores: [{name: main, driver: mem}]
backends: [{name: ssd, store: main}]
exports:
  limits: {export_connections: 3, memory_mib: 64, stall: 5s}
  volume_qos: {0e4be7ac-1b35-4b5c-b1f5-b4a1b1c5c0aa: {total_iops_sec: 7}}
volume_types:
- {id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ssd, extra_specs: {volume_backend_name: ssd}, qos: {KEY: 500}}
`

func TestQoSConfig(t *testing.T) {
	c, err := ParseConfig([]byte(strings.Replace(limitedZone, "KEY", "read_iops_sec", 1)), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	types, limits := c.types()
	l := c.Exports.Limits.nbd()
	if len(types) != 1 || limits[types[0].ID]["read_iops_sec"] != "500" ||
		c.Exports.VolumeQoS["0e4be7ac-1b35-4b5c-b1f5-b4a1b1c5c0aa"]["total_iops_sec"] != 7 {
		t.Errorf("types %+v, limits %+v", types, limits)
	}
	if l.ExportConnections != 3 || l.ServerBytes != 64<<20 || l.Stall != 5*time.Second || l.Connections != 0 {
		t.Errorf("limits of exports %+v", l)
	}
	_, err = ParseConfig([]byte(strings.Replace(limitedZone, "KEY", "iops", 1)), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "volume_types: ssd: qos: iops is no key") {
		t.Errorf("an unknown key: %v", err)
	}
}
