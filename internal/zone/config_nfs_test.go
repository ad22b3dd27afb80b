package zone

import (
	"strings"
	"testing"
)

func TestNFSStores(t *testing.T) {
	for text, want := range map[string]string{
		"{driver: nfs, nfs: {export: '192.0.2.1:/vol01', mode: '0600', overcommit: 2}}": "",
		"{driver: nfs}":                                  "",
		"{driver: nfs, nfs: {format: vmdk}}":             `"vmdk" is neither raw nor qcow2`,
		"{driver: nfs, nfs: {export: /vol01}}":           `"/vol01" is not of the form`,
		"{driver: nfs, nfs: {export: '192.0.2.1:/a b'}}": "is not of the form",
		"{driver: nfs, nfs: {mode: '0999'}}":             "is no octal mode",
		"{driver: nfs, nfs: {uid: -1}}":                  "can't be negative",
		"{driver: nfs, nfs: {overcommit: 0.5}}":          "is below 1",
		"{driver: logstore, nfs: {uid: 1}}":              "nfs is for stores whose driver is nfs",
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
