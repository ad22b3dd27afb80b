package cinder_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/api"
	"kvol/internal/api/cinder"
	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/job"
)

const (
	publicURL = "https://kr1-api-block-storage.infrastructure.cloud.toast.com"
	project   = "6cdebe3eb0094910bc41f1d42ebe4cb7"
	other     = "c0e5e63026e449e6b7e94c779021d150"
	hddType   = "6bda35e2-b2b9-497a-8f65-67a73839c856"
	noSuchID  = "11111111-1111-1111-1111-111111111111"
	newest    = "3.71" // microversion
)

// tokens are who may call: the token's text is the name of the role it plays.
type tokens map[string]block.Caller

func (ts tokens) Authenticate(_ context.Context, token string) (block.Caller, error) {
	c, ok := ts[token]
	if !ok {
		return block.Caller{}, block.Errorf(block.Unauthorized, "unknown token")
	}
	return c, nil
}

var callers = tokens{
	"member": {Project: project, User: "5e6524d826084188ae549815b3e33380", Roles: []string{"member"}},
	"reader": {Project: project, User: "94acd5b4d2bf47dda734e34a113f96ff", Roles: []string{"reader"}},
	"admin":  {Project: project, User: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", Roles: []string{"admin"}},
	"service": {Project: "55555555555545558555555555555555", User: "cccccccccccccccccccccccccccccccc",
		Roles: []string{"service"}},
	"glance": {Project: project, User: "cccccccccccccccccccccccccccccccc", Roles: []string{"member", "service"}},
	// These are of no project.
	"system": {User: "dddddddddddddddddddddddddddddddd", Roles: []string{"admin"}, System: true},
	"domain": {User: "dddddddddddddddddddddddddddddddd", Roles: []string{"admin"}, Domain: "default"},
	"watch":  {User: "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", Roles: []string{"member", "reader"}, System: true},
	"other":  {Project: other, User: "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", Roles: []string{"member"}},
}

// images is an image service in memory.
type images struct {
	mu    sync.Mutex // guards the maps
	all   map[string]control.Image
	bytes map[string][]byte
}

func (s *images) Find(_ context.Context, _ block.Caller, idOrName string) (control.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, img := range s.all {
		if id == idOrName || img.Name == idOrName {
			return img, nil
		}
	}
	return control.Image{}, block.Errorf(block.NotFound, "Image %s could not be found.", idOrName)
}

func (s *images) Open(_ context.Context, _ block.Caller, id string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := s.bytes[id]
	rest := io.LimitReader(zeros{}, max(0, s.all[id].Size-int64(len(begin))))
	return io.NopCloser(io.MultiReader(bytes.NewReader(begin), rest)), nil
}

func (s *images) Create(_ context.Context, _ block.Caller, img control.Image) (control.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img.ID == "" {
		img.ID = block.NewID()
	}
	img.Status = "queued"
	s.all[img.ID] = img
	return img, nil
}

func (s *images) Upload(_ context.Context, _ block.Caller, id string, r io.Reader) error {
	begin, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, r) // volumes are large and hold zeros here
	s.mu.Lock()
	defer s.mu.Unlock()
	img := s.all[id]
	img.Status, img.Size = "active", int64(len(begin))+n
	s.all[id], s.bytes[id] = img, begin
	return err
}

// zeros are read without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (s *images) Delete(_ context.Context, _ block.Caller, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
	return nil
}

// fixture is a zone made small: the real front end, rules, jobs and catalog,
// bytes in memory.
type fixture struct {
	testing.TB
	catalog *catalog.Catalog
	control *control.Service
	images  *images
	config  cinder.Config
	handler http.Handler
	made    int           // things that a test gave names by numbers
	words   []string      // of things of the member's project, each with its id
	ended   chan struct{} // gets a token when an attempt at a job ended
}

// newFixture makes a zone whose jobs do not run; change may alter the
// front end's configuration.
func newFixture(t testing.TB, change ...func(*cinder.Config)) *fixture {
	t.Helper()
	f := &fixture{TB: t, ended: make(chan struct{}, 1),
		images: &images{all: map[string]control.Image{}, bytes: map[string][]byte{}}}
	var err error
	f.catalog, err = catalog.Open(t.Context(), catalog.Options{Image: catalogtest.Empty()})
	f.must(err)
	t.Cleanup(func() { f.must(f.catalog.Close()) })
	f.must(f.catalog.Update(t.Context(), func(tx *catalog.Tx) error { return errors.Join(types(tx)...) }))
	store := mem.New(mem.Options{})
	backends, err := driver.NewSet(map[string]driver.Driver{"m": store}, []block.Backend{
		{Name: "hdd_general", Store: "m"}, {Name: "ssd_general", Store: "m"}})
	f.must(err)
	vault, err := backup.NewDirectory(t.TempDir(), time.Now())
	f.must(err)
	backups, err := backup.New(vault, backup.Options{Zone: "kr1"})
	f.must(err)
	f.control, err = control.New(
		control.Config{Catalog: f.catalog, Backups: backups, Backends: backends, Zone: "kr1", Region: "KR1",
			DefaultType: "General HDD", DefaultBackend: "hdd_general", AvailabilityZones: []string{"kr-pub-a", "kr-pub-b"},
			Images: f.images, ExportAddress: func() string { return "192.0.2.1:10809" }},
	)
	f.must(err)
	f.config = cinder.Config{Control: f.control, Auth: callers, PublicURL: publicURL,
		AuthURL: "https://identity.example/v3", Region: "KR1"}
	for _, c := range change {
		c(&f.config)
	}
	f.handler = documents.around(
		t,
		f.config.V2ExtraFields,
		api.Wrap(cinder.New(f.config), api.Options{Fault: cinder.Fault}),
	)
	return f
}

// types are the two of the guide and one that is private.
func types(tx *catalog.Tx) []error {
	return []error{
		tx.UpsertType(block.VolumeType{ID: hddType, Name: "General HDD", Public: true,
			ExtraSpecs: map[string]string{"volume_backend_name": "hdd_general"}}),
		tx.UpsertType(block.VolumeType{ID: "4e36aa51-df30-422e-aff1-eba1f3d9612f", Name: "General SSD", Public: true,
			ExtraSpecs: map[string]string{"volume_backend_name": "ssd_general"}}),
		tx.UpsertType(block.VolumeType{ID: "99999999-9999-4999-8999-999999999999", Name: "Private",
			ExtraSpecs: map[string]string{"volume_backend_name": "ssd_general"}}),
	}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// runJobs runs the zone's jobs until the test ends.
func (f *fixture) runJobs() { f.Cleanup(f.startJobs()) }

// startJobs runs the zone's jobs until stop is called.
func (f *fixture) startJobs() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r := job.New(job.Config{Catalog: f.catalog, Handlers: f.control.Handlers(), Owner: "test", Workers: 2,
		Log: slog.New(slog.DiscardHandler), Observe: func(job.Attempt) {
			select {
			case f.ended <- struct{}{}:
			default:
			}
		}})
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			f.Error(err)
		}
	}
}

// until waits for jobs to end until ok says true.
func (f *fixture) until(ok func() bool) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 5*time.Minute)
	defer cancel()
	for !ok() {
		select {
		case <-f.ended:
		case <-ctx.Done():
			f.Fatal("what was waited for did not happen")
		}
	}
}

// answer is what a request led to.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

// do makes a request as the holder of a token ("" for none). A path that does
// not begin with a slash is below /v2/<the token's project>/.
func (f *fixture) do(method, path, token, body string, headers ...string) answer {
	f.Helper()
	if !strings.HasPrefix(path, "/") {
		path = "/v2/" + string(callers[token].Project) + "/" + path
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return f.serve(r)
}

func (f *fixture) serve(r *http.Request) answer {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.Bytes()}
}

// newRequest is a GET of a path below the token's project.
func newRequest(path, token string) *http.Request {
	r := httptest.NewRequest("GET", "/v2/"+string(callers[token].Project)+"/"+path, nil)
	r.Header.Set("X-Auth-Token", token)
	return r
}

// want does a request as member and checks its status.
func (f *fixture) want(code int, method, path, body string) answer {
	f.Helper()
	return f.wantAs("member", code, method, path, body)
}

func (f *fixture) wantAs(token string, code int, method, path, body string) answer {
	f.Helper()
	a := f.do(method, path, token, body)
	if a.code != code {
		f.Fatalf("%s %s %s = %d %s, want %d", method, path, body, a.code, a.body, code)
	}
	return a
}

// get reads a member by its path, "volume.id".
func (a answer) get(t testing.TB, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	for step := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("no %s in %s", path, a.body)
		}
		if v, ok = m[step]; !ok {
			t.Fatalf("no %s in %s", path, a.body)
		}
	}
	return v
}

func (a answer) text(t testing.TB, path string) string {
	t.Helper()
	s, ok := a.get(t, path).(string)
	if !ok {
		t.Fatalf("%s is no string in %s", path, a.body)
	}
	return s
}

// volume makes a volume and returns its id. Jobs must run.
func (f *fixture) volume(body string) string {
	f.Helper()
	id := f.want(202, "POST", "volumes", body).text(f, "volume.id")
	f.status("volumes/"+id, "volume.status", "available")
	return id
}

// available puts volumes of a size into the catalog as if they had been made,
// a second apart, and returns the first one's id. No bytes are behind them.
func (f *fixture) available(size int64, names ...string) string {
	f.Helper()
	if len(names) == 0 {
		names = []string{"v"}
	}
	var first block.VolumeID
	f.must(f.catalog.Update(f.Context(), func(tx *catalog.Tx) error {
		for i, name := range names {
			v := block.Volume{ID: block.VolumeID(block.NewID()), Project: project, User: callers["member"].User,
				Name: &name, Size: size, Status: block.VolumeAvailable, TypeID: hddType, Backend: "hdd_general",
				AvailabilityZone: "kr-pub-a", ReplicationStatus: "disabled", Epoch: 1,
				CreatedAt: time.Date(2020, 3, 3, 10, 0, i, 0, time.UTC), UpdatedAt: time.Date(2020, 3, 4, 0, 0, 0, 7000, time.UTC)}
			if i == 0 {
				first = v.ID
			}
			if err := tx.InsertVolume(v); err != nil {
				return err
			}
		}
		return nil
	}))
	return string(first)
}

// status waits until a thing has a status.
func (f *fixture) status(path, member, status string) {
	f.Helper()
	f.until(func() bool { return f.wantAs("admin", 200, "GET", path, "").text(f, member) == status })
}
