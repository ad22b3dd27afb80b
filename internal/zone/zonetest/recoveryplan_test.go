package zonetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// hooks is a service that the operator has told of waves, and that fails those
// that it is to.
type hooks struct {
	mu    sync.Mutex
	told  []string // guarded by mu, as all below
	fails string
	hold  chan struct{} // if not nil, an answer waits for it
}

func (h *hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var news struct {
		When    string `json:"when"`
		Wave    int    `json:"wave"`
		Volumes []struct {
			Status    string `json:"status"`
			NewVolume string `json:"new_volume"`
		} `json:"volumes"`
	}
	if err := json.NewDecoder(r.Body).Decode(&news); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text := fmt.Sprintf("%s %d: %d %s", news.When, news.Wave, len(news.Volumes), news.Volumes[0].Status)
	h.mu.Lock()
	h.told = append(h.told, text)
	fails, hold := h.fails == text, h.hold
	h.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	if fails || r.Header.Get("Idempotency-Key") == "" {
		http.Error(w, "not today", http.StatusTeapot)
	}
}

func (h *hooks) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.told)
}

func withHooks(t *testing.T, h *hooks, command string) *zonetest.Cloud {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.Hooks = []zone.HookConfig{{Name: "tell", URL: server.URL},
			{Name: "run", Command: []string{"/bin/sh", "-c", command}, Timeout: 5 * time.Second},
			{Name: "hang", Command: []string{"/bin/sleep", "600"}, Timeout: 100 * time.Millisecond}}
	})
}

// TestWavesHooksAndFailures: waves run one after another with what is to happen
// between them; a hook that fails stops what has not begun, unless the plan goes
// on; a hook that hangs ends by its time-out.
func TestWavesHooksAndFailures(t *testing.T) {
	t.Parallel()
	h := &hooks{}
	file := filepath.Join(t.TempDir(), "ran")
	c := withHooks(t, h, `cat >> `+file+` && echo " $KVOL_WHEN $KVOL_WAVE" >> `+file)
	all := protect(t, c, 3)
	c.Kill(source)
	s := c.Session(to, zonetest.Admin)
	wave := func(i int) client.RecoveryWave {
		return client.RecoveryWave{Scope: client.RecoveryScope{Volumes: ids(all)[i : i+1]}}
	}
	first, second, third := wave(0), wave(1), wave(2)
	first.Before, first.After = "tell", "run"
	second.After, second.WaitSeconds = "tell", 1
	plan := client.RecoveryPlan{Name: "shop", Waves: []client.RecoveryWave{first, second, third}}
	p, err := s.CreatePlan(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	plan.Description = "in their order"
	if got, err := s.UpdatePlan(t.Context(), "shop", plan); err != nil || got.ID != p.ID || got.Description == "" {
		t.Errorf("%+v, %v", got, err)
	}
	h.fails = "after 2: 1 succeeded"
	op, _, err := s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Plan: "shop"}, AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.WaitDurable(t.Context(), op.ID, nil)
	if err == nil || d.Status != "partly" {
		t.Fatalf("%+v, %v", d, err)
	}
	var got []string
	for _, step := range d.Steps {
		got = append(got, step.Kind+" "+strconv.Itoa(step.Wave)+" "+step.Status)
	}
	want := []string{"hook 1 succeeded", "recover 1 succeeded", "hook 1 succeeded", "wait 2 succeeded",
		"recover 2 succeeded", "hook 2 failed", "recover 3 skipped"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if heard := h.heard(); !slices.Equal(heard, []string{"before 1: 1 waiting", "after 2: 1 succeeded"}) {
		t.Errorf("the hook heard %q", heard)
	}
	if text, err := os.ReadFile(file); err != nil || !json.Valid(text[:len(text)-len(" after 1\n")]) {
		t.Errorf("the command wrote %q, %v", text, err)
	}
	if gap := d.Steps[4].StartedAt.Sub(*d.Steps[1].EndedAt); gap < time.Second {
		t.Errorf("the second wave began %s after the first ended", gap)
	}
	if err := s.DeletePlan(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	third.Before, third.GoOn = "hang", true
	plan.Waves = []client.RecoveryWave{third}
	if _, err := s.CreatePlan(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	op, _, err = s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Plan: "shop"}, AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	d, _ = s.WaitDurable(t.Context(), op.ID, nil)
	if d.Status != "partly" || d.Steps[0].Status != "failed" || d.Steps[1].Status != "succeeded" ||
		d.Steps[0].Error != "Hook hang took longer than 100ms." {
		t.Errorf("%+v", d)
	}
}

// TestCancelLeavesWhatBegan: what was taken over goes to its end, what was not
// stays as it is in its zone and can be recovered later.
func TestCancelLeavesWhatBegan(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	all := protect(t, c, 2)
	c.Kill(source)
	s := c.Session(to, zonetest.Alice)
	if _, err := s.CreatePlan(t.Context(), client.RecoveryPlan{Name: "slow", Waves: []client.RecoveryWave{
		{Scope: client.RecoveryScope{Volumes: ids(all)[:1]}},
		{Scope: client.RecoveryScope{Project: c.Projects[zonetest.Alice]}, WaitSeconds: 3600}}}); err != nil {
		t.Fatal(err)
	}
	op, _, err := s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Plan: "slow"}, AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Poll(t.Context(), 5*time.Millisecond, func() (bool, error) {
		d, err := s.Durable(t.Context(), op.ID)
		return err == nil && d.Steps[1].StartedAt != nil && d.Cancelable, err
	}); err != nil {
		t.Fatal(err)
	}
	if d, err := s.CancelDurable(t.Context(), op.ID); err != nil || d.CanceledBy == "" {
		t.Fatalf("%+v, %v", d, err)
	}
	d, _ := s.WaitDurable(t.Context(), op.ID, nil)
	if d.Status != "canceled" || d.Steps[0].Status != "succeeded" || d.Steps[1].Status != "canceled" ||
		d.Steps[2].Status != "canceled" || d.Steps[2].NewVolume != "" {
		t.Errorf("%+v", d)
	}
	if fences := c.Rows(to, "fences"); len(fences) != 1 {
		t.Errorf("the right to write was taken over %d times", len(fences))
	}
	if _, err = s.CancelDurable(t.Context(), op.ID); !client.IsStatus(err, http.StatusConflict) {
		t.Errorf("canceled after its end: %v", err)
	}
	op, _, err = s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Volumes: ids(all)[1:]},
		AcceptLoss: true})
	if err != nil {
		t.Fatal(err)
	}
	recovered(t, c, s, op.ID, all[1:])
}

// TestKilledAnywhereItGoesOn kills the zone that recovers in the middle of an
// operation, as it has come to each step, and starts it again. It ends as if
// nothing had happened: each volume once, nothing pinned.
func TestKilledAnywhereItGoesOn(t *testing.T) {
	for steps := range 5 {
		t.Run(fmt.Sprintf("after %d steps", steps), func(t *testing.T) {
			t.Parallel()
			h := &hooks{}
			if steps == 2 {
				h.hold = make(chan struct{})
			}
			c := withHooks(t, h, "true")
			all := protect(t, c, 3)
			c.Kill(source)
			s := c.Session(to, zonetest.Admin)
			if _, err := s.CreatePlan(t.Context(), client.RecoveryPlan{Name: "p", Waves: []client.RecoveryWave{
				{Scope: client.RecoveryScope{Volumes: ids(all)[:2]}, Before: "run", After: "tell"},
				{Scope: client.RecoveryScope{Zone: source}, Parallel: 1}}}); err != nil {
				t.Fatal(err)
			}
			old := time.Now()
			op, _, err := s.Recover(t.Context(), client.Recovery{Scope: client.RecoveryScope{Plan: "p"}, AcceptLoss: true,
				Point: client.RecoveryPoint{At: &old}, IdempotencyKey: "k"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			if err := client.Poll(ctx, time.Millisecond, func() (bool, error) {
				d, err := s.Durable(ctx, op.ID)
				ended := 0
				for _, step := range d.Steps {
					if step.EndedAt != nil {
						ended++
					}
				}
				return ended >= steps, err
			}); err != nil {
				t.Fatal(err)
			}
			c.Kill(to)
			if h.hold != nil {
				close(h.hold)
			}
			c.Start(to)
			s = c.Session(to, zonetest.Admin)
			recovered(t, c, s, op.ID, all)
			volumes, err := c.Session(to, zonetest.Alice).Volumes(ctx, false)
			if err != nil || len(volumes) != 3 {
				t.Errorf("%d volumes, %v", len(volumes), err)
			}
			if err := client.Poll(ctx, 5*time.Millisecond, func() (bool, error) {
				return !slices.ContainsFunc(c.Rows(to, "pins"), func(row string) bool {
					return slices.ContainsFunc([]string{"operation/", "recovery/"}, func(holder string) bool {
						return strings.Contains(row, holder)
					})
				}), nil
			}); err != nil {
				t.Errorf("pins remain: %q", c.Rows(to, "pins"))
			}
		})
	}
}
