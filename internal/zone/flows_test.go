package zone_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/export/exporttest"
)

// cloudly is a zone for what compute services do: both exports, a type whose
// volumes several servers use, a service's user, and a Nova that it tells.
const cloudly = `
zone: mitaka1
listen: 127.0.0.1:0
availability_zones: [a]
default_volume_type: ssd
stores: [{name: main, driver: logstore, segment_mib: 4, dir: main}]
backends: [{name: fast, store: main}]
volume_types:
- {id: ` + typeID + `, name: ssd, extra_specs: {volume_backend_name: fast}}
- id: 5c1ee5b4-9a4d-4a8a-8f0e-5d6d4c9c0a11
  name: shared
  extra_specs: {volume_backend_name: fast, multiattach: "<is> True"}
exports: {nbd: "127.0.0.1:0", iscsi: "127.0.0.1:0"}
nova: {url: %q, auth_url: %q, user: kvol, password: secret, project: service}
identity:
  projects: [{name: blue}]
  users:
  - {name: alice, password: a long password, roles: [{project: blue, role: member}]}
  - {name: operator, password: a long password, roles: [{project: blue, role: admin}]}
  - {name: nova, password: a long password, roles: [{project: blue, role: service}]}
`

// server is the one that volumes are attached to, other a second one.
const (
	server = "11111111-1111-1111-1111-111111111111"
	other  = "22222222-2222-2222-2222-222222222222"
)

// events is a Keystone and a Nova that note what they are told.
type events struct {
	mu   sync.Mutex // guards told
	told []string
}

func (e *events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/auth/tokens") {
		w.Header().Set("X-Subject-Token", "a token")
		w.WriteHeader(http.StatusCreated)
		return
	}
	var body struct {
		Events []struct {
			Name   string
			Server string `json:"server_uuid"`
			Tag    string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var said []map[string]any
	for _, one := range body.Events {
		e.told = append(e.told, one.Name+" "+one.Server+" "+one.Tag)
		said = append(said, map[string]any{"name": one.Name, "server_uuid": one.Server, "tag": one.Tag, "code": 200,
			"status": "completed"})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"events": said}) // to nobody, if the zone hung up
}

func (e *events) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.told)
}

// cloud is a zone that runs, as Alice and Nova's user beside her see it.
type cloud struct {
	*testing.T
	url           string
	project       string
	token         string
	service       string // Nova's token, which comes beside Alice's
	operatorToken string
	nova          *events
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{T: t, nova: &events{}}
	h := httptest.NewServer(c.nova)
	t.Cleanup(h.Close)
	c.url = serveConfig(t, t.TempDir(), fmt.Sprintf(cloudly, h.URL+"/v2.1", h.URL+"/v3"))
	for user, token := range map[string]*string{"alice": &c.token, "nova": &c.service, "operator": &c.operatorToken} {
		s, err := client.Login(t.Context(), client.Auth{URL: c.url + "/identity", User: user,
			Password: "a long password", Project: "blue"})
		if err != nil {
			t.Fatal(err)
		}
		*token, c.project = s.Token, s.ProjectID
	}
	return c
}

// ask makes a request, in a microversion from 3.67 on down that has all that is
// asked here.
func (c *cloud) ask(token, service, method, path, body string) (code int, answer map[string]any) {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.url+"/v3/"+c.project+"/"+path, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	r.Header.Set("OpenStack-API-Version", "volume 3.65")
	r.Header.Set("Content-Type", "application/json")
	if service != "" {
		r.Header.Set("X-Service-Token", service)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&answer) // many answers have no body
	return resp.StatusCode, answer
}

// want asks as Nova does on Alice's behalf and checks the status.
func (c *cloud) want(code int, method, path, body string) map[string]any {
	c.Helper()
	got, answer := c.ask(c.token, c.service, method, path, body)
	if got != code {
		c.Fatalf("%s %s %s: %d %v, want %d", method, path, body, got, answer, code)
	}
	return answer
}

func (c *cloud) act(code int, volume, body string) map[string]any {
	c.Helper()
	return c.want(code, "POST", "volumes/"+volume+"/action", body)
}

// at reads a member by its path.
func at(answer any, path ...string) any {
	for _, step := range path {
		m, _ := answer.(map[string]any)
		answer = m[step]
	}
	return answer
}

func textAt(answer any, path ...string) string {
	text, _ := at(answer, path...).(string)
	return text
}

// until polls a thing until it has a status.
func (c *cloud) until(path, member, status string) (answer map[string]any) {
	c.Helper()
	err := client.Poll(c.Context(), 5*time.Millisecond, func() (bool, error) {
		answer = c.want(200, "GET", path, "")
		return textAt(answer, member, "status") == status, nil
	})
	if err != nil {
		c.Fatalf("%s is %v: %v", path, answer, err)
	}
	return answer
}

func (c *cloud) status(volume, want string) {
	c.Helper()
	if got := textAt(c.want(200, "GET", "volumes/"+volume, ""), "volume", "status"); got != want {
		c.Errorf("the volume is %s, want %s", got, want)
	}
}

func (c *cloud) volume(more string) string {
	c.Helper()
	id := textAt(c.want(202, "POST", "volumes", `{"volume":{"size":1`+more+`}}`), "volume", "id")
	c.until("volumes/"+id, "volume", "available")
	return id
}

// qemu has qemu-io use what a connection says, and reports whether all went
// well.
func (c *cloud) qemu(kind string, data map[string]any, initiator string, steps ...string) bool {
	c.Helper()
	args := []string{"-f", "raw", textAt(data, "url")}
	if kind == "iscsi" {
		args = []string{"--image-opts", fmt.Sprintf("driver=raw,file.driver=iscsi,file.transport=tcp,file.lun=%v,"+
			"file.portal=%v,file.target=%v,file.user=%v,file.password=%v,file.initiator-name=%s", data["target_lun"],
			data["target_portal"], data["target_iqn"], data["auth_username"], data["auth_password"], initiator)}
	}
	for _, step := range steps {
		args = append(args, "-c", step)
	}
	out, err := exec.CommandContext(c.Context(), "qemu-io", args...).CombinedOutput()
	c.Logf("qemu-io of %s: %s", kind, out)
	return err == nil && !bytes.Contains(out, []byte("failed")) && !bytes.Contains(out, []byte("error"))
}

// connectors are those of hosts by protocol.
func connectorOf(kind, host string) (connector, initiator string) {
	initiator = "iqn.2025-01.test:" + host
	return fmt.Sprintf(
		`{"host":%q,"initiator":%q,"protocol":%q,"mountpoint":"/dev/vdb"}`,
		host,
		initiator,
		kind,
	), initiator
}

// TestNovaAttaches is what Nova does since 3.44: an attachment is made before the
// host is known, gets its connector, is complete, and is deleted. Meanwhile the
// volume grows, and Nova is told.
func TestNovaAttaches(t *testing.T) {
	exporttest.Tool(t, "qemu-io")
	c := newCloud(t)
	for _, kind := range []string{"iscsi", "nbd"} {
		connector, initiator := connectorOf(kind, "h1")
		id := c.volume("")
		a := c.want(200, "POST", "attachments", `{"attachment":{"volume_uuid":"`+id+`","instance_uuid":"`+server+`"}}`)
		path := "attachments/" + textAt(a, "attachment", "id")
		c.status(id, "reserved")
		a = c.want(200, "PUT", path, `{"attachment":{"connector":`+connector+`}}`)
		data, _ := at(a, "attachment", "connection_info").(map[string]any)
		if textAt(data, "driver_volume_type") != kind || textAt(a, "attachment", "status") != "attaching" {
			t.Fatalf("%s: %v", kind, a)
		}
		c.status(id, "attaching")
		if !c.qemu(kind, data, initiator, "write -P 7 1M 1M", "flush") {
			t.Errorf("%s: the host can't write", kind)
		}
		c.want(204, "POST", path+"/action", `{"os-complete":{}}`)
		c.status(id, "in-use")

		c.act(202, id, `{"os-extend":{"new_size":2}}`)
		v := c.until("volumes/"+id, "volume", "in-use")
		if at(v, "volume", "size") != 2.0 {
			t.Errorf("%s: it has %v GiB", kind, at(v, "volume", "size"))
		}
		if !c.qemu(kind, data, initiator, "read -P 7 1M 1M", "write -P 8 1536M 1M", "read -P 8 1536M 1M") {
			t.Errorf("%s: the host can't use what was added", kind)
		}
		told := "volume-extended " + server + " " + id
		err := client.Poll(t.Context(), 5*time.Millisecond, func() (bool, error) {
			return slices.Contains(c.nova.all(), told), nil
		})
		if err != nil {
			t.Errorf("%s: Nova was told %v: %v", kind, c.nova.all(), err)
		}
		if code, _ := c.ask(c.token, "", "DELETE", path, ""); code != 409 {
			t.Errorf("%s: a user alone deletes the attachment: %d", kind, code)
		}
		c.want(200, "DELETE", path, "")
		c.status(id, "available")
		if c.qemu(kind, data, initiator, "read 0 4k") {
			t.Errorf("%s: the host reads on", kind)
		}
		c.want(202, "DELETE", "volumes/"+id, "")
	}
}

// TestNovaAttachesAsOfOld is the flow of before 3.27.
func TestNovaAttachesAsOfOld(t *testing.T) {
	exporttest.Tool(t, "qemu-io")
	c := newCloud(t)
	for _, kind := range []string{"iscsi", "nbd"} {
		connector, initiator := connectorOf(kind, "h1")
		id := c.volume("")
		c.act(202, id, `{"os-reserve":{}}`)
		c.status(id, "attaching")
		info := c.act(200, id, `{"os-initialize_connection":{"connector":`+connector+`}}`)
		data, _ := at(info, "connection_info", "data").(map[string]any)
		if textAt(info, "connection_info", "driver_volume_type") != kind ||
			!c.qemu(kind, data, initiator, "write -P 7 0 64k", "flush", "read -P 7 0 64k") {
			t.Errorf("%s: the host can't use %v", kind, info)
		}
		c.act(202, id, `{"os-attach":{"instance_uuid":"`+server+`","mountpoint":"/dev/vdb","mode":"rw"}}`)
		c.status(id, "in-use")
		c.act(202, id, `{"os-begin_detaching":{}}`)
		c.status(id, "detaching")
		c.act(202, id, `{"os-roll_detaching":{}}`)
		c.status(id, "in-use")
		c.act(202, id, `{"os-begin_detaching":{}}`)
		c.act(202, id, `{"os-terminate_connection":{"connector":`+connector+`}}`)
		if c.qemu(kind, data, initiator, "read 0 4k") {
			t.Errorf("%s: the host reads on", kind)
		}
		c.act(202, id, `{"os-detach":{}}`)
		c.status(id, "available")
		c.want(202, "DELETE", "volumes/"+id, "")
	}
}

// TestNovaSharesVolumes: two servers on two hosts use a volume at once, each by
// its own path; what one writes the other reads, and the end of one path is not
// the end of the other.
func TestNovaSharesVolumes(t *testing.T) {
	exporttest.Tool(t, "qemu-io")
	c := newCloud(t)
	alone := c.volume("")
	c.want(200, "POST", "attachments", `{"attachment":{"volume_uuid":"`+alone+`","instance_uuid":"`+server+`"}}`)
	c.want(400, "POST", "attachments", `{"attachment":{"volume_uuid":"`+alone+`","instance_uuid":"`+other+`"}}`)
	for _, kind := range []string{"iscsi", "nbd"} {
		id := c.volume(`,"volume_type":"shared"`)
		var paths, initiators []string
		var data []map[string]any
		for i, instance := range []string{server, other} {
			connector, initiator := connectorOf(kind, fmt.Sprint("h", i))
			a := c.want(200, "POST", "attachments", `{"attachment":{"volume_uuid":"`+id+`","instance_uuid":"`+instance+
				`","connector":`+connector+`}}`)
			path := "attachments/" + textAt(a, "attachment", "id")
			c.want(204, "POST", path+"/action", `{"os-complete":{}}`)
			info, _ := at(a, "attachment", "connection_info").(map[string]any)
			paths, initiators, data = append(paths, path), append(initiators, initiator), append(data, info)
		}
		c.status(id, "in-use")
		if !c.qemu(kind, data[0], initiators[0], "write -P 5 1M 64k", "flush") ||
			!c.qemu(kind, data[1], initiators[1], "read -P 5 1M 64k", "write -P 6 2M 64k", "flush") ||
			!c.qemu(kind, data[0], initiators[0], "read -P 6 2M 64k") {
			t.Errorf("%s: the hosts do not see each other's writes", kind)
		}
		c.want(200, "DELETE", paths[0], "")
		c.status(id, "in-use")
		if c.qemu(kind, data[0], initiators[0], "read 0 4k") || !c.qemu(kind, data[1], initiators[1], "read -P 6 2M 64k") {
			t.Errorf("%s: the wrong path ended", kind)
		}
		c.want(200, "DELETE", paths[1], "")
		c.status(id, "available")
	}
}
