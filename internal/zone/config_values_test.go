package zone_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client"
	"kvol/internal/zone"
)

// parts are what a configuration of a test is made of, each with a value that is good.
var parts = map[string]string{
	"NAME": "a", "STORE": "", "TYPE": typeID, "TYPES": "", "PEERS": "{zone: x, url: 'https://h:1'}",
	"PROTECTION": "", "RELAY": "", "AZS": "[a]", "MORE": "",
}

// configOf is a configuration that differs in some parts.
func configOf(t *testing.T, other map[string]string) (zone.Config, error) {
	t.Helper()
	text := `
zone: $NAME
listen: 127.0.0.1:0
availability_zones: $AZS
stores: [{name: s, driver: logstore $STORE}]
backends: [{name: b, store: s}]
volume_types: [{id: $TYPE, name: t, extra_specs: {volume_backend_name: b}} $TYPES]
peer: {listen: '127.0.0.1:0', cert: c, key: k, ca: a}
peers: [$PEERS, {zone: y, url: 'https://h:2'}]
protections: [{seq: 1, volume_type: t, destination: y, backup_backend: {name: z} $PROTECTION}]
relays: [{seq: 2, source_zone: w, follows: 7, destination: y, backup_backend: {name: z} $RELAY}]
$MORE
`
	text = os.Expand(text, func(part string) string {
		if value, ok := other[part]; ok {
			return value
		}
		return parts[part]
	})
	return zone.ParseConfig([]byte(text), t.TempDir())
}

// TestValuesThatNobodyMeant: what would silently keep no points, let nobody in, or be
// found by nobody is refused, with the key in which it is.
func TestValuesThatNobodyMeant(t *testing.T) {
	const second = "6a21db69-dc6b-4423-834c-679ae153a639"
	for _, c := range []struct{ part, value, key string }{
		{"PROTECTION", ", retention: [{step: 1h}]", "protections: seq 1: retention: for"},
		{"PROTECTION", ", retention: [{step: 1s, for: 1h}, {step: 1h, for: -1h}]", "protections: seq 1: retention: for"},
		{"PROTECTION", ", retention: [{step: -1s, for: 1h}]", "protections: seq 1: retention: step"},
		{"RELAY", ", retention: [{step: 1h}]", "relays: seq 2: retention: for"},
		{"TYPES", ", {id: " + strings.ToUpper(typeID) + ", name: u}", "volume_types: u: id"},
		{"TYPES", ", {id: " + second + ", name: t}", "volume_types: name"},
		{"TYPES", ", {id: " + second + "}", "volume_types: "},
		{"PEERS", "{zone: y, url: 'https://h:1'}", "peers: zone y"},
		{"PEERS", "{url: 'https://h:1'}", "peers: "},
		{"PEERS", "{zone: 'x/y', url: 'https://h:1'}", "peers: zone"},
		{"NAME", "'a b'", "zone: "},
		{"NAME", "a/b", "zone: "},
		{"NAME", ".a", "zone: "},
		{"AZS", "['']", "availability_zones: "},
		{"STORE", ", max_gib: -1", "stores: s: max_gib"},
		{"STORE", ", segment_mib: -1", "stores: s: segment_mib"},
		{"STORE", ", cache_mib: -1", "stores: s: cache_mib"},
		{"STORE", ", scrub_mib_s: -1", "stores: s: scrub_mib_s"},
		{"MORE", "exports: {nbd: '127.0.0.1:0', require_tls: true}", "exports.require_tls"},
		{"MORE", "exports: {limits: {connections: -1}}", "exports.limits.connections"},
		{"MORE", "exports: {limits: {client_connections: -1}}", "exports.limits.client_connections"},
		{"MORE", "exports: {limits: {export_connections: -1}}", "exports.limits.export_connections"},
		{"MORE", "exports: {limits: {memory_mib: -1}}", "exports.limits.memory_mib"},
		{"MORE", "exports: {limits: {stall: -1s}}", "exports.limits.stall: -1s"},
		{"MORE", "identity: {token_ttl: -1h}", "identity.token_ttl"},
		{"MORE", "identity: {projects: [{name: p}, {name: p}]}", "identity.projects"},
		{"MORE", "identity: {users: [{name: u}]}", "identity.users: u: "},
		{"MORE", "identity: {users: [{name: u, password: long enough}, {name: u, password: another one}]}", "identity.users"},
		{"MORE", "kvol_api: {token_ttl: -1h}", "kvol_api.token_ttl"},
		{"MORE", "kvol_api: {users: [{}]}", "kvol_api.users: gabianet: "},
		{"MORE", "kvol_api: {users: [{password: one}, {name: gabianet, password: two}]}", "kvol_api.users"},
	} {
		if _, err := configOf(t, map[string]string{c.part: c.value}); err == nil || !strings.HasPrefix(err.Error(), c.key) {
			t.Errorf("%s: the error is %v, want one of %q", c.value, err, c.key)
		}
	}
}

// TestValuesThatStay: what works, and looks odd, is taken as before.
func TestValuesThatStay(t *testing.T) {
	for _, c := range []struct{ part, value string }{
		{"NAME", "a"}, {"NAME", "eu-west_1.a"}, {"NAME", "'서울'"}, {"AZS", "[a, b, a]"},
		{"PROTECTION", ", retention: [{for: 1h}, {step: 1h, for: 720h}]"}, {"PROTECTION", ", retention: []"},
		{"STORE", ", max_gib: 0, segment_mib: 0, cache_mib: 0, scrub_mib_s: 0"},
		{"MORE", "exports: {require_tls: true, tls: {cert: c, key: k}, limits: {connections: 0}}"},
		{"MORE", "keep_undo: -1h"}, {"MORE", "kvol_api: {users: [{password: one}, {name: other, password_hash: h}]}"},
		{"MORE", "dr: {hold_clean: -1s, verify_within: -1s, doctor: -1s}"},
	} {
		if _, err := configOf(t, map[string]string{c.part: c.value}); err != nil {
			t.Errorf("%s: %v", c.value, err)
		}
	}
}

// TestIDsInAnyForm: ids of types and volumes are those that callers are answered with,
// however the file writes them.
func TestIDsInAnyForm(t *testing.T) {
	const volume = "05b61459-f7e6-483d-9b66-acbef47d1f66"
	for _, form := range []func(string) string{strings.ToUpper,
		func(id string) string { return strings.ReplaceAll(id, "-", "") }} {
		c, err := configOf(t, map[string]string{"TYPE": "'" + form(typeID) + "'",
			"PROTECTION": "}, {seq: 9, volume_type: '" + form(typeID) + "', destination: y, backup_backend: {name: z}",
			"MORE":       "exports: {volume_qos: {'" + form(volume) + "': {total_iops_sec: 5}}}"})
		if err != nil {
			t.Errorf("%s: %v", form(typeID), err)
			continue
		}
		if c.VolumeTypes[0].ID != typeID || c.Exports.VolumeQoS[volume]["total_iops_sec"] != 5 {
			t.Errorf("%s: type %s, QoS of %v", form(typeID), c.VolumeTypes[0].ID, c.Exports.VolumeQoS)
		}
	}
}

// TestTypesKeepTheirIDs starts a zone whose catalog has the type by the id as the file
// writes it, as earlier versions made it: volumes have it, so it stays. A new zone has
// it in the usual form.
func TestTypesKeepTheirIDs(t *testing.T) {
	upper := strings.ToUpper(typeID)
	text := strings.ReplaceAll(fmt.Sprintf(lonely, ""), typeID, upper)
	for want, before := range map[string][]block.VolumeType{typeID: nil, upper: {{ID: block.TypeID(upper), Name: "ssd",
		Public: true}}} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		c, err := catalog.Open(t.Context(), catalog.Options{Path: filepath.Join(dir, "data", "catalog.db")})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Update(t.Context(), func(tx *catalog.Tx) error { return tx.Configure(before, nil) })
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
		s, err := client.Login(t.Context(), client.Auth{URL: serveConfig(t, dir, text) + "/identity", User: "alice",
			Password: "a long password", Project: "blue"})
		if err != nil {
			t.Fatal(err)
		}
		types, err := s.Types(t.Context())
		if err != nil || len(types) != 1 || types[0].ID != want {
			t.Errorf("%+v, %v; want %s", types, err, want)
		}
	}
}
