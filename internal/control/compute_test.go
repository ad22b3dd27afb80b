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
	t      *testing.T
	mu     sync.Mutex // guards below
	status []int      // answers to events, the next first; 200 when there are no more
	told   []string   // events that were taken: server and volume
	asked  int
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
		if req.Header.Get("X-Auth-Token") != "a token" || req.Header.Get("OpenStack-API-Version") != "compute 2.51" {
			r.t.Errorf("the event comes with %v", req.Header)
		}
		if len(r.status) > 0 {
			w.WriteHeader(r.status[0])
			r.status = r.status[1:]
			return
		}
		for _, e := range body.Events {
			r.told = append(r.told, e.Name+" "+e.Server+" "+e.Tag)
		}
	default:
		r.t.Errorf("%s %s", req.Method, req.URL.Path)
	}
}

// TestExtendWhileAttached: the servers that use a volume are told that it grew,
// again where Nova fails at first; what Nova makes of it does not touch the
// volume.
func TestExtendWhileAttached(t *testing.T) {
	const one, two = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
	for name, test := range map[string]struct {
		status   []int
		password string
		told     bool
		asked    int
	}{
		"at once":         {nil, "secret", true, 2},
		"after a failure": {[]int{500, 503}, "secret", true, 4},
		"server is gone":  {[]int{404, 404}, "secret", false, 2},
		"refused":         {[]int{403, 403}, "secret", false, 2},
		"no such user":    {nil, "wrong", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &receiver{t: t, status: test.status}
			s := httptest.NewServer(r)
			defer s.Close()
			z := newZone(t)
			z.extended = nova.New(nova.Config{URL: s.URL + "/v2.1/", AuthURL: s.URL + "/v3", User: "kvol",
				Password: test.password, Project: "service", UserDomain: "Default", ProjectDomain: "Default"}).VolumeExtended
			z.restart()
			v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("shared")})
			for _, server := range []string{one, two} {
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
				want = []string{"volume-extended " + one + " " + string(v.ID), "volume-extended " + two + " " + string(v.ID)}
			}
			slices.Sort(r.told)
			if !slices.Equal(r.told, want) || r.asked != test.asked {
				t.Errorf("after %d requests told %v, want %v after %d", r.asked, r.told, want, test.asked)
			}
		})
	}
}
