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
