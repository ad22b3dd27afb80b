package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
)

// Two projects: pages are read of the one, volumes are made in the other.
const (
	apiProject  = "11111111111111111111111111111111"
	makeProject = "22222222222222222222222222222222"
	apiPassword = "a password of the bench"
	apiType     = "6a21db69-dc6b-4423-834c-679ae153a638"
)

const apiConfig = `
zone: bench
region: bench
listen: %s
data_dir: data
availability_zones: [bench-a]
default_volume_type: ssd
stores: [{name: main, driver: logstore, segment_mib: 64}]
backends: [{name: ssd, store: main}]
volume_types: [{id: ` + apiType + `, name: ssd, extra_specs: {volume_backend_name: ssd}}]
identity:
  projects: [{id: "` + apiProject + `", name: read}, {id: "` + makeProject + `", name: made}]
  users:
  - {id: a, name: admin, password: ` + apiPassword + `, roles: [{project: read, role: admin}]}
  - {id: u, name: alice, password: ` + apiPassword + `,
     roles: [{project: read, role: member}, {project: made, role: member}]}
`

// apiZone is a zone whose API is measured.
type apiZone struct {
	dir, address string
	process      *started
	log          *os.File
	read, made   *client.Session // of a member of each project
	volume       string          // one that there is, for GET
}

func (z *apiZone) pid() int { return z.process.cmd.Process.Pid }

func (z *apiZone) stop() {
	_ = z.process.stop() // its files go with the directory
	_ = z.log.Close()
}

// startZone makes a zone in a directory that is not there yet.
func (b *bench) startZone(ctx context.Context, dir string) (*apiZone, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	z := &apiZone{dir: dir, address: l.Addr().String()}
	if err := errors.Join(l.Close(), os.Mkdir(dir, 0o700)); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(apiConfig, z.address)
	if err := os.WriteFile(filepath.Join(dir, "kvol.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	if z.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		return nil, err
	}
	return z, b.runZone(ctx, z)
}

// runZone starts the zone's process: the program that is measured, or this one
// where a profile is wanted.
func (b *bench) runZone(ctx context.Context, z *apiZone) error {
	exe, args := b.exe, []string{"serve", "--config", filepath.Join(z.dir, "kvol.yaml")}
	if b.profile != "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		exe, args = self, []string{"-serve-zone", args[2], "-profile", b.profile}
	}
	cmd := exec.Command(exe, args...)
	cmd.Stdout, cmd.Stderr = z.log, z.log
	z.process = &started{cmd}
	if err := cmd.Start(); err != nil {
		return err
	}
	err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		answer, err := http.Get("http://" + z.address + "/readyz")
		if err != nil {
			return false, nil // not listening yet
		}
		return answer.StatusCode == http.StatusOK, answer.Body.Close()
	})
	if err == nil {
		err = z.login(ctx)
	}
	if err != nil {
		z.stop()
	}
	return err
}

// login gets the tokens of a member of each project.
func (z *apiZone) login(ctx context.Context) error {
	login := func(user, project string) (*client.Session, error) {
		return client.Login(ctx, client.Auth{URL: "http://" + z.address + "/identity/v3", User: user,
			Password: apiPassword, Project: project, Region: "bench"})
	}
	admin, err := login("admin", apiProject)
	if err != nil {
		return err
	}
	for _, project := range []string{apiProject, makeProject} {
		if err := admin.SetQuotas(ctx, project, map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
			return err
		}
	}
	if z.read, err = login("alice", apiProject); err != nil {
		return err
	}
	z.made, err = login("alice", makeProject)
	return err
}

// fill makes volumes in the project that is read.
func (z *apiZone) fill(ctx context.Context, volumes int) error {
	request := z.message("POST", "/v3/"+apiProject+"/volumes", z.read.Token, `{"volume":{"size":1,"name":"a volume"}}`)
	r, err := z.load(ctx, load{Request: request, Status: http.StatusAccepted, Concurrency: 8, Count: volumes})
	if err != nil {
		return err
	}
	var made struct{ Volume struct{ ID string } }
	err = json.Unmarshal(r.FirstResponse, &made)
	z.volume = made.Volume.ID
	return errors.Join(err, z.settled(ctx))
}

// settled waits until no volume is being made.
func (z *apiZone) settled(ctx context.Context) error {
	for _, s := range []*client.Session{z.read, z.made} {
		base, err := s.URL("volumev3")
		if err != nil {
			return err
		}
		err = client.Poll(ctx, 5*time.Millisecond, func() (bool, error) {
			var list struct{ Volumes []struct{ ID string } }
			err := getJSON(ctx, base+"/volumes?status=creating&limit=1", s.Token, &list)
			return len(list.Volumes) == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func getJSON(ctx context.Context, address, token string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	r.Header.Set("X-Auth-Token", token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// request is a work's, as it goes over the wire.
func (z *apiZone) request(w apiWork) []byte {
	path, body, project, token := w.path, w.body, apiProject, z.read.Token
	if w.status == http.StatusAccepted {
		project, token = makeProject, z.made.Token
	}
	if strings.HasPrefix(path, "/identity") {
		body = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"alice","password":"` +
			apiPassword + `","domain":{"name":"Default"}}}},"scope":{"project":{"id":"` + apiProject + `"}}}}`
	} else {
		path = "/v3/" + project + "/" + strings.ReplaceAll(path, "{id}", z.volume)
	}
	return z.message(w.method, path, token, body)
}

// message writes a request with the headers that Cinder's own clients send.
func (z *apiZone) message(method, path, token, body string, headers ...string) []byte {
	head := method + " " + path + " HTTP/1.1\r\nHost: " + z.address + "\r\nUser-Agent: kvol-bench\r\n" +
		"Accept: application/json\r\nX-Auth-Token: " + token + "\r\n"
	for _, header := range headers {
		head += header + "\r\n"
	}
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return []byte(head + "\r\n" + body)
}

// serveZone is what this program does in a process that serves a zone for a
// profile, until it is interrupted: what "kvol serve" does.
func serveZone(ctx context.Context, config, profile string) error {
	cfg, err := zone.LoadConfig(config)
	if err != nil {
		return err
	}
	f, err := os.Create(profile)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	server, err := zone.Open(ctx, cfg, zone.Environment{Log: log, Now: time.Now})
	if err == nil {
		err = server.Run(ctx)
	}
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}
