package zone_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/test/port"
)

// keeping is a zone with a user who keeps keys in a project; the other zone has
// that project too.
const keeping = `
zone: mitaka1
listen: 127.0.0.1:0
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: mem}]
backends: [{name: fast, store: main}]
volume_types: [{id: ` + typeID + `, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{id: 3f1a6d2c8b7e4f5091a2b3c4d5e6f708, name: blue}]
  users:
  - {name: alice, password: a long password, roles: [{project: blue, role: admin}]}
  - {name: keeper, password: the keeper's password, roles: [{project: blue, role: member}]}
%s
`

// keyed is a zone whose keys an external key manager has.
type keyed struct {
	*cloud
	manager string // its address, without /v1
	token   string // of the keeper
}

// newKeyed starts a zone that places its keys in a manager; identity is where
// its tokens come from.
func newKeyed(t *testing.T, manager, identity string) *keyed {
	t.Helper()
	url := serveConfig(t, t.TempDir(), fmt.Sprintf(keeping, fmt.Sprintf(
		"key_manager: {url: %q, auth_url: %q, user: keeper, password: the keeper's password}", manager, identity+"/v3")))
	login := func(url, user, password string) *client.Session {
		s, err := client.Login(t.Context(), client.Auth{URL: url, User: user, Password: password, Project: "blue"})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	alice := login(url+"/identity", "alice", "a long password")
	k := &keyed{cloud: &cloud{T: t, url: url, project: alice.ProjectID, token: alice.Token}, manager: manager}
	k.token = login(identity, "keeper", "the keeper's password").Token
	kind := textAt(k.want(200, "POST", "types", `{"volume_type":{"name":"vault",
		"extra_specs":{"volume_backend_name":"fast"}}}`), "volume_type", "id")
	k.want(200, "POST", "types/"+kind+"/encryption", `{"encryption":{"provider":"luks","cipher":"aes-xts-plain64",
		"key_size":256,"control_location":"front-end"}}`)
	return k
}

// payload asks the manager for a key, as a host does.
func (k *keyed) payload(id string) (code int, key []byte) {
	k.Helper()
	r, err := http.NewRequestWithContext(k.Context(), "GET", k.manager+"/v1/secrets/"+id+"/payload", http.NoBody)
	if err != nil {
		k.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", k.token)
	r.Header.Set("X-Project-Id", k.project)
	r.Header.Set("Accept", "application/octet-stream")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		k.Fatal(err)
	}
	defer answer.Body.Close()
	key, err = io.ReadAll(answer.Body)
	if err != nil {
		k.Fatal(err)
	}
	return answer.StatusCode, key
}

// walk makes encrypted volumes and deletes them; the manager has their keys as
// long as they exist, under the ids that the volumes show.
func (k *keyed) walk() {
	first := k.volume(`,"volume_type":"vault"`)
	names := map[string]string{}
	for _, id := range []string{first, k.volume(`,"source_volid":"` + first + `"`)} {
		err := client.Poll(k.Context(), 20*time.Millisecond, func() (bool, error) {
			code, answer := k.ask(k.cloud.token, "", "GET", "volumes/"+id+"/encryption", "")
			names[id] = textAt(answer, "encryption_key_id")
			return code == 200, nil
		})
		if err != nil {
			k.Fatal(err)
		}
		if shown := textAt(k.want(200, "GET", "volumes/"+id, ""), "volume", "encryption_key_id"); shown != names[id] {
			k.Errorf("the volume shows key %s, its encryption %s", shown, names[id])
		}
		if code, key := k.payload(names[id]); code != 200 || len(key) != 32 {
			k.Errorf("the key manager answers %d with %d bytes", code, len(key))
		}
	}
	for id, name := range names {
		k.want(202, "DELETE", "volumes/"+id, "")
		err := client.Poll(k.Context(), 20*time.Millisecond, func() (bool, error) {
			code, _ := k.payload(name)
			return code == 404, nil
		})
		if err != nil {
			k.Fatalf("the key of a deleted volume stays: %v", err)
		}
	}
}

// TestKeysElsewhere has another zone's key manager as the external one.
func TestKeysElsewhere(t *testing.T) {
	other := serveConfig(t, t.TempDir(), fmt.Sprintf(keeping, ""))
	newKeyed(t, other+"/key-manager", other+"/identity").walk()
}

// TestKeyManagerAway: volumes are made while the key manager can't be reached,
// and say that hosts have to wait for the key.
func TestKeyManagerAway(t *testing.T) {
	other := serveConfig(t, t.TempDir(), fmt.Sprintf(keeping, ""))
	k := newKeyed(t, "http://"+port.Address(t), other+"/identity")
	id := k.volume(`,"volume_type":"vault"`)
	if code, answer := k.ask(k.cloud.token, "", "GET", "volumes/"+id+"/encryption", ""); code != 503 {
		t.Errorf("its encryption: %d %v", code, answer)
	}
	if key := at(k.want(200, "GET", "volumes/"+id, ""), "volume", "encryption_key_id"); key != nil {
		t.Errorf("it shows key %v", key)
	}
	k.want(202, "DELETE", "volumes/"+id, "")
}

// TestKeysInBarbican is TestKeysElsewhere with the Barbican that Debian has.
func TestKeysInBarbican(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import barbican.api.app").Run(); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("python3-barbican is missing; test/setup.sh installs it")
		}
		t.Skip("SKIPPED: PYTHON3-BARBICAN IS NOT INSTALLED")
	}
	cmd := exec.Command(python, "testdata/keymanager.py", t.TempDir())
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		t.Fatalf("barbican does not start: %v\n%s", err, &said)
	}
	identity := serveConfig(t, t.TempDir(), fmt.Sprintf(keeping, ""))
	newKeyed(t, "http://127.0.0.1:"+strings.TrimSpace(port), identity+"/identity").walk()
}
