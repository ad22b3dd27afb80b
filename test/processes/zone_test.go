// Package processes runs the program as several processes that serve one zone
// together on a real PostgreSQL, and kills, stops and restarts them and the
// database.
package processes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/test/afterwards"
	"kvol/test/port"
	"kvol/test/postgres"
	"kvol/test/program"
)

// patience is for what has to happen, on a machine however busy.
const patience = 3 * time.Minute

// binary is the path of the built program.
var binary string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "processes:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "kvol-processes-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if binary, err = program.Build(dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// blue is the id of the project of every user.
const blue = "523b3c98e9bb2ef79d057633b0ba6c91"

// settings are a process's configuration: its name, address of its APIs, what is said
// of exports, the catalog, the lease, the stores, the zone's name, the id of its
// type, what more there is, and what more there is of the process.
const settings = `
zone: %[7]s
listen: %[2]s
data_dir: data-%[1]s
shared_dir: shared
catalog: {url: "%[4]s"}
process: {name: %[1]s, lease: %[5]s, drain: 2s%[10]s}
exports: {%[3]s}
availability_zones: [a]
default_volume_type: ssd
stores: [%[6]s]
backends: [{name: fast, store: main}, {name: backup, store: main}]
volume_types: [{id: %[8]s, name: ssd, extra_specs: {volume_backend_name: fast}}]
identity:
  projects: [{id: ` + blue + `, name: blue}]
  users:
    - {name: alice, password: a long password, roles: [{project: blue, role: member}]}
    - {name: root, password: a long password, roles: [{project: blue, role: admin}]}
%[9]s`

// typeID is that of the type of a zone that is alone.
const typeID = "6a21db69-dc6b-4423-834c-679ae153a638"

// zone is several processes that serve one zone.
type zone struct {
	t         *testing.T
	name      string
	dir       string
	server    *postgres.Server
	database  string // its URL
	processes []*process
	http      *http.Client // nil for one that knows no authorities of its own
	secrets   []string     // that no log may have
}

// process is one of them. It belongs to the test's goroutine, but for its log.
type process struct {
	*program.Process
	z       *zone
	url     string
	wrapped bool // it is the child of what was started, and has a pid of its own
}

// TestProcesses runs what leaves the database alone, on one server: most of it is
// waiting for leases that end.
func TestProcesses(t *testing.T) {
	t.Parallel()
	server := postgres.Start(t)
	for _, one := range []struct {
		name string
		test func(*testing.T, *postgres.Server)
	}{
		{"ReplicationTakeover", replicationTakeover},
		{"SharedStore", sharedStore},
		{"HostsFollow", hostsFollow},
		{"RollingRestart", rollingRestart},
		{"Killed", killed},
		{"Takeover", takeover},
		{"StoppedIsKilled", stoppedIsKilled},
		{"Stopped", stopped},
		{"Refused", refused},
		{"DetachElsewhere", detachElsewhere},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			one.test(t, server)
		})
	}
}

// newZone starts processes of the given names on a store, with their catalog in a
// database of their own; "%s" in the store's description is the zone's directory.
func newZone(t *testing.T, server *postgres.Server, lease, store string, names ...string) *zone {
	t.Helper()
	return newZoneOf(t, server, plan{lease: lease, store: store}, names...)
}

// unguarded lets a process live that stood still for longer than its lease.
const unguarded = ", unguarded: true"

// newZoneOf is newZone with a plan for all processes, but for their addresses.
func newZoneOf(t *testing.T, server *postgres.Server, with plan, names ...string) *zone {
	t.Helper()
	z := emptyZone(t, "mitaka1", server)
	for i, address := range port.Addresses(t, len(names)) {
		with.exports = fmt.Sprintf("nbd: %q", address)
		z.add(names[i], with)
	}
	z.start()
	return z
}

// emptyZone makes a zone that has no processes yet.
func emptyZone(t *testing.T, name string, server *postgres.Server) *zone {
	t.Helper()
	z := &zone{t: t, name: name, dir: t.TempDir(), server: server, secrets: []string{"a long password"}}
	z.database = server.Database(t)
	afterwards.Run(t, "/bin/sh", "-c", `kill -KILL $(cat "$0"/*.pid)`, z.dir)
	t.Cleanup(func() {
		for _, p := range z.processes {
			p.kill()
			for _, secret := range z.secrets {
				if strings.Contains(p.Log.String(), secret) {
					t.Errorf("the log of %s of %s has the secret %s", p.Name, z.name, secret)
				}
			}
			if t.Failed() {
				t.Logf("log of %s of %s:\n%s", p.Name, z.name, p.Log)
			}
		}
	})
	return z
}

// plan is what a process is told beside its name.
type plan struct {
	lease, store string
	exports      string // the addresses
	typeID       string // typeID if ""
	tls          bool   // it has a certificate: then more says so
	more         string
	process      string
	program      string // the path of what runs it; the binary if ""
}

// add gives the zone a process, which does not run yet.
func (z *zone) add(name string, with plan) *process {
	z.t.Helper()
	if with.typeID == "" {
		with.typeID = typeID
	}
	if strings.Contains(with.store, "%s") {
		with.store = fmt.Sprintf(with.store, z.dir)
	}
	address := port.Address(z.t)
	path := cmp.Or(with.program, binary)
	p := &process{
		Process: program.New(path, name, filepath.Join(z.dir, name+".yaml")),
		z:       z,
		url:     "http://" + address,
		wrapped: path != binary,
	}
	if with.tls {
		p.url = "https://" + address
	}
	text := fmt.Sprintf(settings, name, address, with.exports, z.database, with.lease, with.store, z.name, with.typeID,
		with.more, with.process)
	if err := os.WriteFile(p.Config, []byte(text), 0o600); err != nil {
		z.t.Fatal(err)
	}
	z.processes = append(z.processes, p)
	return p
}

// start starts all processes of the zone.
func (z *zone) start() {
	z.t.Helper()
	for _, p := range z.processes {
		p.start()
	}
	for _, p := range z.processes {
		p.awaitHealth()
	}
}

// embedded is a store that the process which leads has open.
const embedded = `{name: main, driver: logstore, dir: "%s/main", segment_mib: 8, max_gib: 4, cache_mib: 16}`

func (p *process) start() {
	p.z.t.Helper()
	p.Start(p.z.t)
}

// signal sends a signal to the process alone.
func (p *process) signal(s syscall.Signal) {
	p.z.t.Helper()
	p.Signal(p.z.t, s)
}

// kill ends it at once.
func (p *process) kill() { p.Kill() }

// awaitEnd waits until it ended by itself, and returns how.
func (p *process) awaitEnd() error {
	p.z.t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(patience):
		p.z.t.Fatalf("process %s does not end", p.Name)
	}
	return p.Exit()
}

func (p *process) awaitHealth() {
	p.z.t.Helper()
	p.z.await("process "+p.Name+" answers", func() error {
		select {
		case <-p.Ended():
			p.z.t.Fatalf("process %s of %s ended: %v", p.Name, p.z.name, p.Exit())
		default:
		}
		asks := http.DefaultClient
		if p.z.http != nil {
			asks = p.z.http
		}
		answer, err := asks.Get(p.url + "/healthz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

// await waits until a condition holds.
func (z *zone) await(what string, check func() error) {
	z.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = check(); last == nil {
			return
		}
	}
	z.t.Fatalf("not yet: %s: %v", what, last)
}

// secret notes what no log may have.
func (z *zone) secret(all ...any) {
	z.t.Helper()
	for _, one := range all {
		text, ok := one.(string)
		if !ok || len(text) < 8 {
			z.t.Fatalf("%v is no secret", one)
		}
		z.secrets = append(z.secrets, text)
	}
}

// login logs a user in at an address.
func (z *zone) login(url, user string) *client.Session {
	z.t.Helper()
	var s *client.Session
	z.await(user+" logs in at "+url, func() (err error) {
		s, err = client.Login(z.t.Context(), client.Auth{URL: url + "/identity/v3", User: user,
			Password: "a long password", Project: "blue", Region: z.name, HTTP: z.http})
		return err
	})
	z.secret(s.Token)
	return s
}

// leader waits until one of the processes leads, as another one tells, and returns
// it and the others. Those that do not run are not asked.
func (z *zone) leader() (leads *process, others []*process) {
	z.t.Helper()
	z.await("a process leads", func() error {
		var asked *process
		for _, p := range z.processes {
			if p.Runs() {
				asked = p
			}
		}
		all, err := z.login(asked.url, "root").Processes(z.t.Context())
		if err != nil {
			return err
		}
		leads, others = nil, nil
		for _, p := range z.processes {
			i := slices.IndexFunc(all, func(c client.Process) bool { return c.Name == p.Name && c.State == "serving" })
			switch {
			case i < 0 || !p.Runs() || !p.wrapped && all[i].PID != p.PID():
			case slices.Contains(all[i].Duties, "lead"):
				leads = p
			default:
				others = append(others, p)
			}
		}
		if leads == nil {
			return fmt.Errorf("nobody leads: %+v", all)
		}
		return nil
	})
	return leads, others
}

// make makes a volume of 1 GiB at a process and waits until it is there.
func (z *zone) make(p *process, name string) string {
	z.t.Helper()
	s := z.login(p.url, "alice")
	v, err := s.CreateVolume(z.t.Context(), client.NewVolume{Name: name, Size: 1})
	if err != nil {
		z.t.Fatal(err)
	}
	z.available(s, v.ID)
	return v.ID
}

func (z *zone) available(s *client.Session, id string) {
	z.t.Helper()
	z.await("volume "+id+" is available", func() error {
		v, err := s.Volume(z.t.Context(), id)
		if err == nil && v.Status != "available" {
			err = errors.New(v.Status)
		}
		return err
	})
}

// pattern is what a test writes.
func pattern(seed byte) []byte {
	p := make([]byte, 64<<10)
	for i := range p {
		p[i] = seed + byte(i*7) + byte(i>>8)
	}
	return p
}

// command runs a client command of the program and returns what it printed.
func (z *zone) command(p *process, user string, args ...string) string {
	z.t.Helper()
	ctx, cancel := context.WithTimeout(z.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "OS_AUTH_URL="+p.url+"/identity/v3", "OS_USERNAME="+user,
		"OS_PASSWORD=a long password", "OS_PROJECT_NAME=blue", "OS_REGION_NAME="+z.name)
	out, err := cmd.CombinedOutput()
	if err != nil {
		z.t.Fatalf("kvol %q: %v\n%s", args, err, out)
	}
	return string(out)
}
