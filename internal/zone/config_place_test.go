package zone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStoresInOnePlace: two stores may not be one.
func TestStoresInOnePlace(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	const fsid = "[global]\n  fsid = 0b1c2d3e-0000-4000-8000-000000000000\n"
	for _, name := range []string{"one.conf", "other.conf"} {
		if err := os.WriteFile(at(name), []byte(fsid), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(at("d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("d"), at("link")); err != nil {
		t.Fatal(err)
	}
	for stores, refused := range map[string]bool{
		"driver: rbd, rbd: {conf: /c}|driver: rbd, rbd: {conf: /d/../c, pool: rbd, user: u}":            true,
		"driver: rbd, rbd: {conf: /c}|driver: rbd, rbd: {conf: /c, pool: p}":                            false,
		"driver: rbd, rbd: {conf: /c, namespace: n}|driver: rbd, rbd: {conf: /c}":                       false,
		"driver: rbd, rbd: {conf: /c, namespace: n}|driver: rbd, rbd: {conf: /d, namespace: n}":         false,
		"driver: rbd, rbd: {conf: DIR/one.conf}|driver: rbd, rbd: {conf: DIR/other.conf}":               true,
		"driver: rbd, rbd: {conf: DIR/one.conf}|driver: rbd, rbd: {conf: DIR/other.conf, namespace: n}": false,
		"driver: logstore, dir: DIR/d|driver: nfs, dir: DIR/d":                                          true,
		"driver: logstore, dir: DIR/d|driver: logstore, dir: DIR/link":                                  true,
		"driver: nfs, dir: /n|driver: nfs, dir: /n/":                                                    true,
		"driver: logstore, dir: /n|driver: nfs, dir: /m":                                                false,
		"driver: logstore|driver: logstore":                                                             false,
		"driver: mem|driver: mem":                                                                       false,
	} {
		first, second, _ := strings.Cut(strings.ReplaceAll(stores, "DIR", dir), "|")
		_, err := ParseConfig([]byte(`
zone: a
listen: 127.0.0.1:0
stores: [{name: s, `+first+`}, {name: t, `+second+`}]
backends: [{name: b, store: s}]
volume_types: [{id: 6a21db69-dc6b-4423-834c-679ae153a638, name: t, extra_specs: {volume_backend_name: b}}]
`), t.TempDir())
		if refused != (err != nil && strings.Contains(err.Error(), "s and t are in one place")) || !refused && err != nil {
			t.Errorf("%s: %v", stores, err)
		}
	}
}
