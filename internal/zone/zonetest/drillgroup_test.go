package zonetest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// waiting is a probe that keeps what it was told in one file until there is
// another one.
func waiting(told, goOn string) func(*zone.Config) {
	return func(cfg *zone.Config) {
		replicatedTypes(cfg)
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "wait", Command: []string{"/bin/sh", "-c",
			`cat > "` + told + `.new"; mv "` + told + `.new" "` + told + `"; until [ -e "` + goOn + `" ]; do sleep 0.05; done`}},
			Tenants: true}}
	}
}

// clonesOf reads what is on the clones that a probe was told of, in the order of
// some volumes.
func clonesOf(t *testing.T, told string, volumes []string, blocks int) [][]byte {
	t.Helper()
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	var news struct {
		Volumes []struct {
			NBD    string `json:"nbd_uri"`
			Source string `json:"source_volume"`
		} `json:"volumes"`
	}
	if err := json.Unmarshal(text, &news); err != nil || len(news.Volumes) != len(volumes) {
		t.Fatalf("%s: %v", text, err)
	}
	content := make([][]byte, len(volumes))
	for _, v := range news.Volumes {
		conn, err := nbd.Dial(t.Context(), v.NBD, nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, blocks*zonetest.BlockSize)
		if _, err := conn.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		content[slices.Index(volumes, v.Source)] = p
	}
	return content
}

// TestDrillOfAGroupIsOfOneInstant: while numbers are written to the volumes of a
// group in turn, a drill's clones have all numbers up to one, and none beyond.
// Replication goes on meanwhile, by differences.
func TestDrillOfAGroupIsOfOneInstant(t *testing.T) {
	t.Parallel()
	const blocks, volumes = 32, 3
	dir := t.TempDir()
	told, goOn := filepath.Join(dir, "told"), filepath.Join(dir, "go on")
	c := zonetest.NewWith(t, waiting(told, goOn))
	all := protect(t, c, volumes)
	group := c.Grouped(t, source, all)
	there := c.Session(to, zonetest.Alice)
	var conns []*nbd.Conn
	for _, j := range all {
		conns = append(conns, c.Open(source, j.Volume))
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	var written atomic.Int64
	go func() { ended <- rounds(ctx, conns, blocks, &written) }()
	forecast := func(done func(client.Forecast) bool) {
		t.Helper()
		if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
			_, f, err := there.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Group: group}, DryRun: true})
			if client.IsStatus(err, http.StatusNotFound) || client.IsStatus(err, http.StatusServiceUnavailable) {
				return false, nil
			}
			return err == nil && done(f), err
		}); err != nil {
			t.Fatal(err)
		}
	}
	cuts := map[string]bool{} // that came one after the other
	another := func(f client.Forecast) bool {
		if len(f.Groups) == 1 && f.Groups[0].Cut != nil && f.Groups[0].Cut.Members == volumes {
			cuts[f.Groups[0].Cut.ID] = true
		}
		return len(cuts) >= 5
	}
	if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		return written.Load() > 3*blocks*volumes, nil // so much that all of before is overwritten
	}); err != nil {
		t.Fatal(err)
	}
	forecast(another)
	before := stored(t, c, to)
	id := begun(t, there, client.Drill{Scope: client.RecoveryScope{Group: group},
		Probes: []client.DrillProbe{{Kind: "verify"}, {Kind: "command", Name: "wait"}}})
	awaitStep(t, there, id, "probe", "running", "command wait")
	if err := client.Poll(t.Context(), 10*time.Millisecond, func() (bool, error) {
		_, err := os.Stat(told)
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := onePrefix(clonesOf(t, told, ids(all), blocks), blocks); err != nil {
		t.Error(err)
	}
	clear(cuts) // new ones come while the clones are there
	forecast(another)
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := drilled(t, there, id)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, conn := range conns {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if r.Verdict != "pass" || !r.OneInstant || r.Spread != 0 || r.ClonesMade != volumes || r.ClonesLeft != 0 {
		t.Errorf("%+v", r)
	}
	if len(r.Pairs) != 1 || r.CopiedAgain != 0 || r.Copied != 0 || r.Pairs[0].Whole != 0 ||
		r.Pairs[0].Points < 5*volumes { // at each of the cuts that were seen, each volume got one
		t.Errorf("replication: %d bytes again, %+v", r.CopiedAgain, r.Pairs)
	}
	wantClean(t, c, before)
}

// TestDrillOfAPlan: clones are made wave by wave; hooks and waits are left out,
// which the report says. The zone is killed between two waves' ends, too.
func TestDrillOfAPlan(t *testing.T) {
	t.Parallel()
	h := &hooks{}
	c := withHooks(t, h, "true")
	all := protect(t, c, 3)
	s := c.Session(to, zonetest.Admin)
	wave := func(i, n int) client.RecoveryWave {
		return client.RecoveryWave{Scope: client.RecoveryScope{Volumes: ids(all)[i : i+n]}}
	}
	first, second := wave(0, 1), wave(1, 2)
	first.Before, second.After, second.WaitSeconds = "tell", "tell", 600
	if _, err := s.CreatePlan(t.Context(), client.RecoveryPlan{Name: "shop",
		Waves: []client.RecoveryWave{first, second}}); err != nil {
		t.Fatal(err)
	}
	before := stored(t, c, to)
	for _, kill := range []bool{false, true} {
		id := begun(t, s, client.Drill{Scope: client.RecoveryScope{Plan: "shop"}})
		if kill {
			awaitStep(t, s, id, "clone", "succeeded", "")
			c.Kill(to)
			c.Start(to)
			s = c.Session(to, zonetest.Admin)
		}
		r := drilled(t, s, id)
		if r.Verdict != "pass" || r.ClonesMade != 3 || r.ClonesLeft != 0 || r.CopiedAgain != 0 ||
			!strings.Contains(strings.Join(r.Notes, " "), "waits and hooks are left out") {
			t.Errorf("%+v", r)
		}
		d, err := s.Durable(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var firstEnded, secondBegan *time.Time
		for _, step := range d.Steps {
			switch {
			case step.Kind == "clone" && step.Wave == 1:
				firstEnded = step.EndedAt
			case step.Kind == "clone" && step.Wave == 2 && (secondBegan == nil || step.StartedAt.Before(*secondBegan)):
				secondBegan = step.StartedAt
			}
		}
		if firstEnded == nil || secondBegan == nil || secondBegan.Before(*firstEnded) {
			t.Errorf("the second wave began at %v, the first ended at %v", secondBegan, firstEnded)
		}
		wantClean(t, c, before)
	}
	if told := h.heard(); len(told) > 0 {
		t.Errorf("hooks that act on what is real were told %q", told)
	}
}

// TestDrillAsksAService: one that does not answer in its time fails the drill,
// which is cleaned up; one during which the zone is killed is asked again, by the
// same key.
func TestDrillAsksAService(t *testing.T) {
	t.Parallel()
	keys, hold := make(chan string, 10), make(chan struct{})
	var answers atomic.Bool
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		keys <- r.Header.Get("Idempotency-Key")
		if !answers.Load() {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
	}))
	t.Cleanup(hook.Close)
	t.Cleanup(func() { close(hold) })
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "ask", URL: hook.URL}, Tenants: true}}
	})
	all := protect(t, c, 1)
	before := stored(t, c, to)
	s := c.Session(to, zonetest.Alice)
	drill := func(timeout int) client.Drill {
		return client.Drill{Scope: client.RecoveryScope{Volumes: ids(all)},
			Probes: []client.DrillProbe{{Kind: "http", Name: "ask", TimeoutSeconds: timeout}}}
	}
	r := drilled(t, s, begun(t, s, drill(1)))
	if r.Verdict != "fail" || !strings.Contains(strings.Join(r.Reasons, " "), "http ask: It took longer than 1s.") ||
		r.ClonesLeft != 0 || r.CopiedAgain != 0 {
		t.Errorf("%+v", r)
	}
	wantClean(t, c, before)
	<-keys
	id := begun(t, s, drill(0))
	key := <-keys
	c.Kill(to)
	answers.Store(true)
	c.Start(to)
	if r := drilled(t, c.Session(to, zonetest.Alice), id); r.Verdict != "pass" || r.Restarts != 1 {
		t.Errorf("%+v", r)
	}
	if again := <-keys; again != key || key == "" {
		t.Errorf("it was asked with the key %q, and then with %q", key, again)
	}
	wantClean(t, c, before)
}
