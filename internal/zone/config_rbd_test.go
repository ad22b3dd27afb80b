package zone

import (
	"strings"
	"testing"
)

func TestRBDStores(t *testing.T) {
	for text, want := range map[string]string{
		"{driver: rbd, rbd: {conf: /c, namespace: n}}":                                         "",
		"{driver: rbd, rbd: {conf: /c, hosts: {user: nova, secret_uuid: 1-2, cluster: ceph}}}": "",
		"{driver: rbd}": "the path of the cluster's ceph.conf, is missing",
		"{driver: rbd, rbd: {conf: /c, timeout: -1s}}":            "a time-out is negative",
		"{driver: rbd, rbd: {conf: /c, namespace: n, hosts: {}}}": "the pool's default namespace only",
		"{driver: mem, rbd: {conf: /c}}":                          "rbd is for stores whose driver is rbd",
	} {
		store := strings.Replace(text, "{", "{name: s, ", 1)
		_, err := ParseConfig([]byte(`
zone: a
listen: 127.0.0.1:0
stores: [`+store+`]
backends: [{name: b, store: s}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: t, extra_specs: {volume_backend_name: b}}]
`), t.TempDir())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestTransports(t *testing.T) {
	for text, want := range map[string]string{
		"volume_type: ceph, transport: rbd-mirror":     "",
		"volume_type: ceph, transport: stream":         "",
		"volume_type: embedded, transport: stream":     "",
		"volume_type: embedded, transport: rbd-mirror": "transport rbd-mirror is for volumes on a store whose driver is rbd",
		"volume_type: ceph, transport: pigeon":         `transport "pigeon" is neither stream nor rbd-mirror`,
	} {
		c, err := ParseConfig([]byte(`
zone: a
listen: 127.0.0.1:0
peer: {listen: "127.0.0.1:1", cert: c, key: k, ca: a}
peers: [{zone: b, url: "https://b:1"}]
stores: [{name: c, driver: rbd, rbd: {conf: /c}}, {name: e, driver: mem}]
backends: [{name: c, store: c}, {name: e, store: e}]
default_volume_type: ceph
volume_types:
  - {id: 6a21db69-dc6b-4423-834c-679ae153a638, name: ceph, extra_specs: {volume_backend_name: c}}
  - {id: 45856d65-9021-4702-b8a6-62d5326b8f4e, name: embedded, extra_specs: {volume_backend_name: e}}
protections:
  - {seq: 1, destination: b, backup_backend: {name: x}, interval: 1s, `+text+`}
`), t.TempDir())
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
			continue
		}
		if err != nil {
			continue
		}
		if got := c.protections()[0].Transport.String(); !strings.HasSuffix(text, got) {
			t.Errorf("%s came out as %s", text, got)
		}
	}
}
