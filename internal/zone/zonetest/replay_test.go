package zonetest_test

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/api/cinder/recorded"
	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// The projects of the recorded Cinder.
const (
	recordedMember = "45e060f1523b4a54ae2a9c5e21944494"
	recordedAdmin  = "9c584adcdf144fa984ff7b8f66e97224"
)

// failoverDiffers are the recorded exchanges whose answers are others here on
// purpose; docs/api/differences.md gives the reasons.
var failoverDiffers = map[string]string{
	"633-dr-extend-while-frozen": "the volume moved; what stayed is read-only",
	"639-dr-pools":               "the capabilities of a pool are those of its driver",
}

// failoverReplay plays the recorded failovers of a backend in a zone that two
// others protect.
type failoverReplay struct {
	recorded.Player
	t            *testing.T
	c            *zonetest.Cloud
	admin, alice *client.Session
}

// await asks until ok, for as long as a machine with much to do may take.
func (r *failoverReplay) await(what string, ok func(context.Context) (bool, error)) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Minute)
	defer cancel()
	if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) { return ok(ctx) }); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// settle waits until nothing is made and nothing fails over, and until all that is
// protected has a whole copy in the other zone.
func (r *failoverReplay) settle() {
	r.t.Helper()
	r.await("the backend's failover", func(context.Context) (bool, error) {
		return serviceOf(r.t, r.c, source).Replication != "failing-over", nil
	})
	r.await("what is made", func(ctx context.Context) (bool, error) {
		volumes, err := r.alice.Volumes(ctx, false)
		for _, v := range volumes {
			if strings.HasSuffix(v.Status, "ing") {
				return false, err
			}
		}
		return true, err
	})
	r.await("copies", func(ctx context.Context) (bool, error) {
		links, err := r.admin.Links(ctx)
		for _, l := range links {
			if l.Destination == "kilo1" && l.Confirmed == nil {
				return false, err
			}
		}
		return true, err
	})
}

// play makes the request of an exchange and complains of what is different.
func (r *failoverReplay) play(x recorded.Exchange) (complaints []string) {
	r.t.Helper()
	who := r.alice
	if strings.Contains(x.Path, recordedAdmin) {
		who = r.admin
	}
	q, err := http.NewRequestWithContext(r.t.Context(), x.Method, r.c.URL(source)+r.Names.Here(x.Path),
		strings.NewReader(r.Names.Here(x.Body)))
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range x.Header {
		if k != "Host" {
			q.Header.Set(k, v)
		}
	}
	q.Header.Set("X-Auth-Token", who.Token)
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Compare(x, recorded.Answer{Code: answer.StatusCode, Header: answer.Header, Body: text})
}

// TestReplayFailover plays what a real Cinder (21.3, Zed) with a replicated
// backend was asked: its failover and failback, freezing and thawing, and what
// tenants do meanwhile.
func TestReplayFailover(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	r := &failoverReplay{t: t, c: c, admin: c.Session(source, zonetest.Admin), alice: c.Session(source, zonetest.Alice)}
	r.Names = recorded.Names{recordedMember: c.Projects[zonetest.Alice], recordedAdmin: c.Projects[zonetest.Admin],
		`"dr"`: `"ssd"`, `"fake"`: `"ssd"`, "peer@dr": "kvol@" + source + "-ssd", "zone-b": "kilo1"}
	files, err := filepath.Glob("testdata/zed/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("recordings: %d, %v", len(files), err)
	}
	for _, path := range files {
		x, err := recorded.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		r.settle()
		complaints := r.play(x)
		reason, known := failoverDiffers[x.Name]
		switch {
		case len(complaints) > 0 && !known:
			t.Errorf("%s: %s %s %s\n\t%s", x.Name, x.Method, x.Path, x.Body, strings.Join(complaints, "\n\t"))
		case len(complaints) == 0 && known:
			t.Errorf("%s is alike, though it should differ: %s", x.Name, reason)
		}
	}
	t.Logf("%d exchanges, %d of them differ on purpose", len(files), len(failoverDiffers))
}
