package cinder_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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

// exchange is a request to a real Cinder and its answer.
type exchange struct {
	name, method, path string
	header             map[string]string
	body               string
	code               int
	answerHeader       map[string]string
	answer             string
}

// readExchange reads a recording: "> " lines of a request, "< " lines of the
// answer's head, and then its body.
func readExchange(t *testing.T, path string) exchange {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	x := exchange{name: strings.TrimSuffix(filepath.Base(path), ".txt"), header: map[string]string{},
		answerHeader: map[string]string{}}
	var inBody, inAnswer bool
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "> ") && x.method == "":
			parts := strings.Fields(line)
			x.method, x.path = parts[1], parts[2]
		case line == ">" || line == "> ":
			inBody = true
		case strings.HasPrefix(line, "> ") && inBody:
			x.body += line[2:]
		case strings.HasPrefix(line, "> "):
			k, v, _ := strings.Cut(line[2:], ": ")
			x.header[k] = v
		case strings.HasPrefix(line, "< HTTP/"):
			_, _ = fmt.Sscanf(line[2:], "HTTP/1.1 %d", &x.code)
		case strings.HasPrefix(line, "< "):
			k, v, _ := strings.Cut(line[2:], ": ")
			x.answerHeader[k] = v
		case line == "<":
			inAnswer = true
		case inAnswer:
			x.answer += line + "\n"
		}
	}
	return x
}

// replayer plays exchanges in their order. The ids that Cinder gave are
// replaced by those that were given here.
type replayer struct {
	*fixture
	ids map[string]string
}

func (r *replayer) ours(s string) string {
	for theirs, here := range r.ids {
		s = strings.ReplaceAll(s, theirs, here)
	}
	return s
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
func (r *replayer) play(x exchange) (complaints []string) {
	r.Helper()
	token := "member"
	switch {
	case strings.Contains(x.name, "reader"):
		token = "reader"
	case strings.Contains(x.name, "other-project"), strings.Contains(x.name, "other-member"):
		r.ids[recordedAdmin] = other
		defer delete(r.ids, recordedAdmin)
	case strings.Contains(x.path, recordedOther):
		token = "other"
	case strings.Contains(x.path, recordedAdmin):
		token = "admin"
	case strings.Contains(x.name, "bad-token"), strings.Contains(x.name, "revoked-token"):
		token = "stolen"
	case x.header["X-Auth-Token"] == "":
		token = ""
	}
	req := httptest.NewRequest(x.method, "/", strings.NewReader(r.ours(x.body)))
	u, err := req.URL.Parse(strings.ReplaceAll(r.ours(x.path), recordedAdmin, project))
	r.must(err)
	req.URL = u
	for k, v := range x.header {
		switch k {
		case "Host", "X-Auth-Token":
		case "X-Service-Token":
			req.Header.Set(k, "service")
		default:
			req.Header.Set(k, r.ours(v))
		}
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	a := r.serve(req)
	if a.code != x.code {
		return []string{fmt.Sprintf("status %d, Cinder %d: %s", a.code, x.code, a.body)}
	}
	if want := r.ours(x.answerHeader["OpenStack-API-Version"]); a.header.Get("OpenStack-API-Version") != want {
		complaints = append(complaints, "OpenStack-API-Version: "+a.header.Get("OpenStack-API-Version")+", Cinder "+want)
	}
	var theirs, here any
	if strings.TrimSpace(x.answer) == "" || json.Unmarshal([]byte(x.answer), &theirs) != nil {
		return complaints
	}
	if err := json.Unmarshal(a.body, &here); err != nil {
		return append(complaints, err.Error())
	}
	if x.code >= 400 {
		if want := r.ours(fmt.Sprint(theirs)); consumed(fmt.Sprint(here)) != consumed(want) {
			complaints = append(complaints, fmt.Sprintf("error %v, Cinder %s", here, want))
		}
		return complaints
	}
	return append(complaints, r.compare("", theirs, here)...)
}

// consumed hides how much is in use, which is what was played before.
func consumed(sentence string) string {
	return inUse.ReplaceAllString(sentence, "all has been consumed")
}

var inUse = regexp.MustCompile(`\d+G has been consumed`)

// compare learns ids and complains of keys and types that are not alike. A
// null is of every type, and the members of metadata are not looked at.
func (r *replayer) compare(at string, theirs, here any) (complaints []string) {
	if theirs == nil || here == nil {
		return nil
	}
	switch theirs := theirs.(type) {
	case map[string]any:
		here, ok := here.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		theirs = withOurTypes(theirs)
		for k, v := range theirs {
			ours, ok := here[k]
			switch {
			case !ok && !free(at):
				complaints = append(complaints, at+"."+k+" is missing")
			case ok:
				complaints = append(complaints, r.compare(at+"."+k, v, ours)...)
			}
		}
		for k := range here {
			if _, ok := theirs[k]; !ok && !free(at) {
				complaints = append(complaints, at+"."+k+" is not Cinder's")
			}
		}
	case []any:
		here, ok := here.([]any)
		if !ok {
			return []string{at + " is no array"}
		}
		for i := range min(len(theirs), len(here)) {
			complaints = append(complaints, r.compare(at+"[]", theirs[i], here[i])...)
		}
	default:
		if fmt.Sprintf("%T", theirs) != fmt.Sprintf("%T", here) {
			return []string{fmt.Sprintf("%s is a %T, Cinder's a %T", at, here, theirs)}
		}
		id, isText := theirs.(string)
		_, ok := block.ParseID(id)
		if isText && (ok && strings.HasSuffix(at, "id") && id != recordedMember || strings.HasSuffix(at, ".auth_key")) {
			if _, known := r.ids[id]; !known {
				r.ids[id], _ = here.(string)
			}
		}
	}
	return complaints
}

// ourTypes are the ends of per-type quotas of the recorded Cinder, and those of
// the fixture's.
var ourTypes = map[string]string{"_nfs": "_General HDD", "_fake": "_General SSD", "___DEFAULT__": "_Private"}

// withOurTypes renames the per-type quotas in an object.
func withOurTypes(theirs map[string]any) map[string]any {
	renamed := make(map[string]any, len(theirs))
	for k, v := range theirs {
		for end, ours := range ourTypes {
			if resource, ok := strings.CutSuffix(k, end); ok {
				k = resource + ours
			}
		}
		renamed[k] = v
	}
	return renamed
}

// free reports whether the members of an object are up to tenants or to how a
// host reaches a volume.
func free(at string) bool {
	for _, name := range []string{".metadata", ".extra_specs", ".volume_image_metadata", ".connection_info",
		".connection_info.data"} {
		if strings.HasSuffix(at, name) {
			return true
		}
	}
	return false
}

// TestReplay plays what a real Cinder (21.3, Zed) was asked, and compares
// status, headers, keys, types and the bodies of errors.
func TestReplay(t *testing.T) {
	f := newFixture(t)
	f.runJobs()
	r := &replayer{fixture: f, ids: map[string]string{recordedMember: project, recordedOther: other, recordedType: hddType,
		"nova": "kr-pub-a", `"nfs"`: `"General HDD"`, `"fake"`: `"General SSD"`, "3.70": newest,
		"peer@nfs": "kvol@hdd_general", "peer@fake": "kvol@ssd_general"}}
	files, err := filepath.Glob("testdata/zed/*.txt")
	f.must(err)
	if len(files) == 0 {
		t.Fatal("no recordings")
	}
	seen := 0
	for _, path := range files {
		x := readExchange(t, path)
		r.settle()
		complaints := r.play(x)
		reason, known := differ[x.name]
		switch {
		case len(complaints) > 0 && !known:
			t.Errorf("%s: %s %s %s\n\t%s", x.name, x.method, x.path, x.body, strings.Join(complaints, "\n\t"))
		case len(complaints) == 0 && known:
			t.Errorf("%s is alike, though it should differ: %s", x.name, reason)
		}
		seen++
	}
	t.Logf("%d exchanges, %d of them differ on purpose", seen, len(differ))
}
