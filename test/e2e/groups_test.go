package e2e

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
)

// within returns what the first group of a pattern found in what a client
// printed.
func within(t *testing.T, out, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no %s in:\n%s", pattern, out)
	}
	return found[1]
}

// TestOpenstackTransfers has the openstack and cinder commands offer a volume to
// another project, which takes it and gives it back.
func TestOpenstackTransfers(t *testing.T) {
	tool(t, "openstack")
	tool(t, "cinder")
	bob, alice := clientEnv(t, "kilo2", "bob"), clientEnv(t, "kilo2", "alice")
	poll := blockStorage(t, "kilo2", "bob", "v3")
	out := commands(t, bob, openstackShell, "volume create --size 1 --type ssd_general offered -f json")
	id := within(t, out, `"id": "([0-9a-f-]{36})"`)
	awaitVolume(t, poll, id, "available")
	out = commands(t, bob, openstackShell,
		"volume transfer request create --name first "+id+" -f json",
		"volume transfer request list -f json",
		"volume transfer request show first -f json",
		"volume transfer request delete first",
		"volume transfer request create --name second "+id+" -f json",
	)
	if strings.Count(out, `"name": "first"`) < 2 || strings.Count(out, `"auth_key": "`) < 2 {
		t.Errorf("openstack prints\n%s", out)
	}
	out = out[strings.LastIndex(out, "$ "):]
	offer, key := within(t, out, `"id": "([0-9a-f-]{36})"`), within(t, out, `"auth_key": "([0-9a-f]{16})"`)
	commands(t, alice, openstackShell, "volume transfer request accept --auth-key "+key+" "+offer)
	awaitVolume(t, poll, id, "deleted") // of that project

	out = commands(t, alice, cinderShell,
		"transfer-create --name back "+id,
		"transfer-list",
		"transfer-show back",
		"transfer-delete back",
		"transfer-create "+id,
	)
	if strings.Count(out, "back") < 4 {
		t.Errorf("cinder prints\n%s", out)
	}
	out = out[strings.LastIndex(out, "$ "):]
	offer, key = within(t, out, `\| id +\| ([0-9a-f-]{36}) `), within(t, out, `\| auth_key +\| ([0-9a-f]{16}) `)
	commands(t, bob, cinderShell, "transfer-accept "+offer+" "+key, "show "+id, "delete "+id)
	awaitVolume(t, poll, id, "deleted")
}

// TestOpenstackGroups has the cinder command make groups, their types,
// snapshots of one instant and groups of those, and the openstack command
// consistency groups.
func TestOpenstackGroups(t *testing.T) {
	tool(t, "openstack")
	tool(t, "cinder")
	admin, bob := clientEnv(t, "kilo2", "admin"), clientEnv(t, "kilo2", "bob")
	poll := blockStorage(t, "kilo2", "bob", "v3")
	out := commands(t, admin, cinderShell,
		"group-type-create --description made client-groups",
		"group-type-key client-groups set a=b",
		"group-specs-list",
	)
	kind := within(t, out, `\| ([0-9a-f-]{36}) \| client-groups`)
	if !strings.Contains(out, "'a': 'b'") {
		t.Errorf("cinder prints no group spec:\n%s", out)
	}
	out = commands(
		t,
		admin,
		cinderShell,
		"group-type-update --is-public True --description changed "+kind,
		"group-type-show "+kind,
		"group-type-key client-groups unset a",
		"group-type-list",
	)
	if !strings.Contains(out, "changed") {
		t.Errorf("cinder prints\n%s", out)
	}

	out = commands(t, bob, cinderShell, "group-create --name client-group "+kind+" ssd_general")
	group := within(t, out, `\| id +\| ([0-9a-f-]{36}) `)
	out = commands(t, bob, cinderShell, "create --name member --volume-type ssd_general --group-id "+group+" 1")
	volume := within(t, out, `\| id +\| ([0-9a-f-]{36}) `)
	awaitVolume(t, poll, volume, "available")
	out = commands(t, bob, cinderShell,
		"group-list",
		"group-show --list-volume True client-group",
		"group-update --name client-group-2 --remove-volumes "+volume+" client-group",
		"group-update --add-volumes "+volume+" client-group-2",
		"group-snapshot-create --name instant client-group-2",
		"group-snapshot-list",
	)
	for _, want := range []string{volume, "instant"} {
		if !strings.Contains(out, want) {
			t.Errorf("cinder prints no %s:\n%s", want, out)
		}
	}
	instant := within(t, out, `(?s)\$ group-snapshot-create.*?\| id +\| ([0-9a-f-]{36}) `)
	for _, lines := range [][]string{
		{"group-snapshot-show " + instant, "group-create-from-src --name of-instant --group-snapshot " + instant},
		{"group-create-from-src --name of-group --source-group " + group}} {
		untilPrinted(t, bob, "group-snapshot-show "+instant, "available")
		out = commands(t, bob, cinderShell, lines...)
		made := within(t, out[strings.LastIndex(out, "$ "):], `\| id +\| ([0-9a-f-]{36}) `)
		untilPrinted(t, bob, "group-show "+made, "available")
		commands(t, bob, cinderShell, "group-delete --delete-volumes "+made)
	}
	commands(t, bob, cinderShell, "group-snapshot-delete "+instant)
	untilGone(t, bob, "group-snapshot-list", instant)
	commands(t, bob, cinderShell, "group-delete --delete-volumes "+group)
	awaitVolume(t, poll, volume, "deleted")
	untilGone(t, bob, "group-list", "-group")
	untilGone(t, bob, "group-list", "of-instant")
	commands(t, admin, cinderShell, "group-type-delete "+kind)

	out = commands(t, bob, openstackShell,
		"consistency group create --volume-type ssd_general client-old -f json",
		"consistency group list -f json",
		"consistency group set --name client-older client-old",
		"consistency group show client-older -f json",
		"consistency group snapshot create --consistency-group client-older old-instant -f json",
		"consistency group snapshot list -f json",
		"consistency group snapshot delete old-instant",
	)
	if !strings.Contains(out, "old-instant") {
		t.Errorf("openstack prints\n%s", out)
	}
	untilGone(t, bob, "cgsnapshot-list", "old-instant")
	commands(t, bob, openstackShell, "consistency group delete --force client-older")
	untilGone(t, bob, "consisgroup-list", "client-older")
}

// untilPrinted repeats a command of cinder until it prints a word.
func untilPrinted(t *testing.T, env []string, line, word string) {
	t.Helper()
	repeat(t, env, line, func(out string) bool { return strings.Contains(out, word) })
}

func untilGone(t *testing.T, env []string, line, word string) {
	t.Helper()
	repeat(t, env, line, func(out string) bool { return !strings.Contains(out, word) })
}

func repeat(t *testing.T, env []string, line string, ok func(out string) bool) {
	t.Helper()
	var out string
	err := client.Poll(t.Context(), 100*time.Millisecond, func() (bool, error) {
		out = commands(t, env, cinderShell, line)
		out = out[strings.Index(out, "\n")+1:] // without the line itself
		return ok(out), nil
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}
