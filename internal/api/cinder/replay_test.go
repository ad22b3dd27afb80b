package cinder_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kvol/internal/api"
	"kvol/internal/api/cinder/recorded"
	"kvol/internal/block"
)

// The projects of the recorded Cinder, and whom its exchanges are played as.
const (
	recordedMember = "45e060f1523b4a54ae2a9c5e21944494"
	recordedAdmin  = "9c584adcdf144fa984ff7b8f66e97224"
	recordedOther  = "82de7cd8dce54bd9895b95e94c94175a"
	recordedType   = "1f8384fe-fb62-4141-b62a-dad725b85e09"
)

// differ are the recorded exchanges whose answers are others here on purpose;
// docs/api/differences.md gives the reasons.
var differ = map[string]string{
	"041-v3-slash":                       "discovery needs no token",
	"042-v3-noslash":                     "discovery needs no token",
	"043-v2-slash":                       "/v2 is served",
	"375-attachment-delete-nova-missing": "no compute service is asked",
	"470-delete-reader":                  "readers read only, as with Cinder's new defaults",
	"471-delete":                         "the volume is there still, since no reader deleted it",
	"069-mv-3.71":                        "3.71 is served, which came after the recorded Cinder",
	"076-mv-header-volume-only":          ownFault,
	"157-create-empty-body":              ownFault,
	"158-create-nobody":                  ownFault,
	"161-create-no-ct":                   ownFault,
	"163-create-reader":                  "readers read only, as with Cinder's new defaults",
	"355-create-from-snapshot-othertype": "a snapshot may become a volume of any type",
	"454-default-types":                  "default types are served below a project too",
	"433-pools-detail":                   "the capabilities of a pool are those of its driver",
}

const (
	ownFault = "a request that Cinder breaks down on (500) is a 400"
)

// held are exchanges of which what they began is still under way when the next
// one is played: no job runs from them until the first that is not held.
var held = []string{"295-act-upload", "296-volume-show-uploading", "297-act-upload-while-uploading",
	"357-snapshot-delete", "358-snapshot-show-deleting", "465-delete-cascade", "466-volume-show-deleting",
	"467-delete-while-deleting"}

// replayer plays exchanges in their order. The ids that Cinder gave are
// replaced by those that were given here.
type replayer struct {
	*fixture
	recorded.Player
	stop func() // nil while no job runs
}

// prepare lets jobs run until none is left, and no further where that is wanted.
func (r *replayer) prepare(hold bool) {
	r.Helper()
	if hold && r.stop == nil {
		return
	}
	if r.stop == nil {
		r.stop = r.startJobs()
	}
	r.settle()
	if hold {
		r.stop()
		r.stop = nil
	}
}

// settle waits until no job works on a volume, a snapshot or a backup.
func (r *replayer) settle() {
	r.Helper()
	r.until(func() bool {
		volumes, err := r.control.Volumes(r.Context(), callers["admin"], block.ListQuery{Limit: -1})
		r.must(err)
		snapshots, err := r.control.Snapshots(r.Context(), callers["admin"], block.ListQuery{Limit: -1})
		r.must(err)
		backups, err := r.control.ListBackups(r.Context(), callers["admin"], block.ListQuery{Limit: -1})
		r.must(err)
		return !slices.ContainsFunc(backups, func(b block.Backup) bool {
			return b.Status.Passing()
		}) && !slices.ContainsFunc(volumes, func(v block.Volume) bool {
			return v.Status.Passing() && v.Status != block.VolumeAttaching && v.Status != block.VolumeDetaching
		}) && !slices.ContainsFunc(snapshots, func(s block.Snapshot) bool {
			return s.Status == block.SnapshotCreating || s.Status == block.SnapshotDeleting
		})
	})
}

// play makes the request of an exchange and complains of what is different.
func (r *replayer) play(x recorded.Exchange) (complaints []string) {
	r.Helper()
	token := "member"
	switch {
	case strings.Contains(x.Name, "reader"):
		token = "reader"
	case strings.Contains(x.Name, "other-project"), strings.Contains(x.Name, "other-member"):
		r.Names[recordedAdmin] = other
		defer delete(r.Names, recordedAdmin)
	case strings.Contains(x.Path, recordedOther):
		token = "other"
	case strings.Contains(x.Path, recordedAdmin):
		token = "admin"
	case strings.Contains(x.Name, "bad-token"), strings.Contains(x.Name, "revoked-token"):
		token = "stolen"
	case x.Header["X-Auth-Token"] == "":
		token = ""
	}
	if x.Code == http.StatusRequestEntityTooLarge && strings.Contains(x.Name, "too-big") {
		x.Body += strings.Repeat("x", api.MaxBody) // the recording has the beginning only
	}
	req := httptest.NewRequest(x.Method, "/", strings.NewReader(r.Names.Here(x.Body)))
	u, err := req.URL.Parse(strings.ReplaceAll(r.Names.Here(x.Path), recordedAdmin, project))
	r.must(err)
	req.URL = u
	for k, v := range x.Header {
		switch k {
		case "Host", "X-Auth-Token":
		case "X-Service-Token":
			req.Header.Set(k, "service")
		default:
			req.Header.Set(k, r.Names.Here(v))
		}
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	a := r.serve(req)
	return r.Compare(x, recorded.Answer{Code: a.code, Header: a.header, Body: a.body})
}

// TestReplay plays what a real Cinder (21.3, Zed) was asked, and compares
// status, headers, keys, types and the bodies of errors.
func TestReplay(t *testing.T) {
	f := newFixture(t)
	r := &replayer{fixture: f, Player: recorded.Player{
		Names: recorded.Names{recordedMember: project, recordedOther: other, recordedType: hddType,
			"nova": "kr-pub-a", `"nfs"`: `"General HDD"`, `"fake"`: `"General SSD"`, "3.70": newest,
			"peer@nfs": "kvol@hdd_general", "peer@fake": "kvol@ssd_general"},
		Types: map[string]string{"_nfs": "_General HDD", "_fake": "_General SSD", "___DEFAULT__": "_Private"}}}
	t.Cleanup(func() {
		if r.stop != nil {
			r.stop()
		}
	})
	files, err := filepath.Glob("testdata/zed/*.txt")
	f.must(err)
	if len(files) == 0 {
		t.Fatal("no recordings")
	}
	for _, path := range files {
		x, err := recorded.Read(path)
		f.must(err)
		r.prepare(slices.Contains(held, x.Name))
		complaints := r.play(x)
		reason, known := differ[x.Name]
		switch {
		case len(complaints) > 0 && !known:
			t.Errorf("%s: %s %s %.500s\n\t%s", x.Name, x.Method, x.Path, x.Body, strings.Join(complaints, "\n\t"))
		case len(complaints) == 0 && known:
			t.Errorf("%s is alike, though it should differ: %s", x.Name, reason)
		}
	}
	t.Logf("%d exchanges, %d of them differ on purpose", len(files), len(differ))
}
