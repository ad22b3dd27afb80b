package control_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"kvol/internal/block"
	nova "kvol/internal/compute"
	"kvol/internal/control"
)

// receiver is a Keystone and a Nova that note what they are told.
type receiver struct {
	t       *testing.T
	version string     // of the API, for events
	mu      sync.Mutex // guards below
	status  []int      // answers to events, the next first; 200 when there are no more
	told    []string   // events that were taken: server and volume
	asked   int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
			}
		}
		Events []struct {
			Name   string
			Server string `json:"server_uuid"`
			Tag    string
		}
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		r.t.Error(err)
	}
	switch req.Method + " " + req.URL.Path {
	case "POST /v3/auth/tokens":
		if u := body.Auth.Identity.Password.User; u.Name != "kvol" || u.Password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-Subject-Token", "a token")
		w.WriteHeader(http.StatusCreated)
	case "POST /v2.1/os-server-external-events":
		r.asked++
		if req.Header.Get("X-Auth-Token") != "a token" || req.Header.Get("OpenStack-API-Version") != "compute "+r.version {
			r.t.Errorf("the event comes with %v", req.Header)
		}
		if len(r.status) > 0 {
			w.WriteHeader(r.status[0])
			r.status = r.status[1:]
			return
		}
		var said []map[string]any
		for _, e := range body.Events {
			r.told = append(r.told, e.Name+" "+e.Server+" "+e.Tag)
			said = append(said, map[string]any{"name": e.Name, "server_uuid": e.Server, "tag": e.Tag, "code": 200,
				"status": "completed"})
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"events": said}); err != nil {
			r.t.Error(err)
		}
	default:
		r.t.Errorf("%s %s", req.Method, req.URL.Path)
	}
}

const serverOne, serverTwo = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"

// tells makes a zone that tells a receiver.
func (r *receiver) tells(password string) *zone {
	s := httptest.NewServer(r)
	r.t.Cleanup(s.Close)
	z := newZone(r.t)
	z.event = nova.New(nova.Config{URL: s.URL + "/v2.1/", AuthURL: s.URL + "/v3", User: "kvol",
		Password: password, Project: "service", UserDomain: "Default", ProjectDomain: "Default"}).VolumeEvent
	z.restart()
	return z
}

// TestExtendWhileAttached: the servers that use a volume are told that it grew,
// in one request and again where Nova fails at first; what Nova makes of it does
// not touch the volume, but its project is told that nobody was.
func TestExtendWhileAttached(t *testing.T) {
	for name, test := range map[string]struct {
		status   []int
		password string
		told     bool
		asked    int
	}{
		"at once":          {nil, "secret", true, 1},
		"after a failure":  {[]int{500, 503}, "secret", true, 3},
		"servers are gone": {[]int{404}, "secret", false, 1},
		"refused":          {[]int{403}, "secret", false, 1},
		"no such user":     {nil, "wrong", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &receiver{t: t, version: "2.51", status: test.status}
			z := r.tells(test.password)
			v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("shared")})
			for _, server := range []string{serverOne, serverTwo} {
				a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: ptr(server)})
				must(t, err)
				_, err = z.UpdateAttachment(z.ctx, alice, a.ID, hostH)
				must(t, err)
				must(t, z.CompleteAttachment(z.ctx, alice, a.ID))
			}
			must(t, z.ExtendVolume(z.ctx, alice, v.ID, 2))
			z.work(z.ctx)
			if now := z.volume(v.ID); now.Status != block.VolumeInUse || now.Size != 2 {
				t.Errorf("the volume is %s and has %d GiB", now.Status, now.Size)
			}
			var want []string
			if test.told {
				want = []string{"volume-extended " + serverOne + " " + string(v.ID),
					"volume-extended " + serverTwo + " " + string(v.ID)}
			} else {
				z.wantMessage("extend volume:Compute service failed to extend volume.")
			}
			slices.Sort(r.told)
			if !slices.Equal(r.told, want) || r.asked != test.asked {
				t.Errorf("after %d requests told %v, want %v after %d", r.asked, r.told, want, test.asked)
			}
		})
	}
}

// TestReimageTellsNova: the rebuild of a server waits for word that its volume
// has the new image. Nobody waits for a volume that is available.
func TestReimageTellsNova(t *testing.T) {
	r := &receiver{t: t, version: "2.93"}
	z := r.tells("secret")
	image := z.images.add(control.Image{Name: "i", DiskFormat: "raw"}, []byte("img"))
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	must(t, z.ReimageVolume(z.ctx, alice, v.ID, image, false))
	z.work(z.ctx)
	if r.asked != 0 {
		t.Errorf("of an available volume Nova is told %v", r.told)
	}
	_, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: ptr(serverOne)})
	must(t, err)
	wantError(t, "reserved", z.ReimageVolume(z.ctx, alice, v.ID, image, false), block.Invalid, "Invalid volume: Volume "+
		string(v.ID)+" status must be available or error, but current status is: reserved.")
	must(t, z.ReimageVolume(z.ctx, alice, v.ID, image, true))
	z.work(z.ctx)
	if now := z.volume(v.ID); now.Status != block.VolumeReserved || now.ImageMetadata["image_id"] != image {
		t.Errorf("the volume is %+v", now)
	}
	if want := []string{"volume-reimaged " + serverOne + " " + string(v.ID)}; !slices.Equal(r.told, want) {
		t.Errorf("Nova is told %v", r.told)
	}
	r.status = []int{404}
	must(t, z.ReimageVolume(z.ctx, alice, v.ID, image, true))
	z.work(z.ctx)
	z.wantMessage("reimage volume:Compute service failed to reimage volume.")
	_, err = z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: ptr(serverOne)})
	must(t, err)
	wantError(t, "two attachments", z.ReimageVolume(z.ctx, alice, v.ID, image, true), block.Conflict,
		"Cannot re-image a volume which is attached to more than one server.")
}
