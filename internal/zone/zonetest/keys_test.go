package zonetest_test

import (
	"net/http"
	"sync"
	"testing"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestKeysMakeOneOfMany: a planned failover and a recovery by a plan that are
// asked for many times with one key are one, also after their end; another
// request with the key is refused, and another tenant's key is another one.
func TestKeysMakeOneOfMany(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 4, 71)
	left := zonetest.NewJourney(t, c, source, 4, 72)
	for _, one := range []*zonetest.Journey{j, left} {
		one.WriteHere(0, 4)
		one.AwaitReplica("kilo1")
		one.AwaitReplica("kilo2")
	}
	s := c.Session(source, zonetest.Alice)
	to := client.FailoverTo{Destination: "kilo1", IdempotencyKey: "monday"}
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			eventually(t, "it is taken", func() bool {
				f, err := s.Failover(t.Context(), j.Volume, to)
				if err != nil && !client.IsStatus(err, http.StatusServiceUnavailable) { // of a busy machine
					t.Error(err)
				}
				ids[i] = f.ID
				return err == nil || t.Failed()
			})
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("%q", ids)
		}
	}
	refused := func() {
		t.Helper()
		const says = "The idempotency key was used for another request."
		_, err := s.Failover(t.Context(), j.Volume, client.FailoverTo{Destination: "kilo2", IdempotencyKey: "monday"})
		wantRefused(t, err, http.StatusConflict, says)
		_, err = s.Failover(t.Context(), left.Volume, to)
		wantRefused(t, err, http.StatusConflict, says)
		_, err = s.Failback(t.Context(), j.Volume, to)
		wantRefused(t, err, http.StatusConflict, says)
		_, err = c.Session(source, zonetest.Bob).Failover(t.Context(), j.Volume, to)
		wantRefused(t, err, http.StatusNotFound, "could not be found")
	}
	refused()
	if f, err := s.WaitFailover(t.Context(), ids[0], nil); err != nil {
		t.Fatalf("%+v, %v", f, err)
	}
	refused()
	if f, err := s.Failover(t.Context(), j.Volume, to); err != nil || f.ID != ids[0] || f.Status != "success" {
		t.Errorf("%+v, %v", f, err)
	}
	if list, err := s.Failovers(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	there := c.Session("kilo2", zonetest.Alice)
	if _, err := there.CreatePlan(t.Context(), client.RecoveryPlan{Name: "shop", Waves: []client.RecoveryWave{{
		Scope: client.RecoveryScope{Volumes: []string{left.Volume}}}}}); err != nil {
		t.Fatal(err)
	}
	run := client.Recovery{Scope: client.RecoveryScope{Plan: "shop"}, AcceptLoss: true, IdempotencyKey: "monday"}
	first, _, err := there.Recover(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := there.WaitDurable(t.Context(), first.ID, nil); err != nil || d.Status != "succeeded" {
		t.Fatalf("%+v, %v", d, err)
	}
	if again, _, err := there.Recover(t.Context(), run); err != nil || again.ID != first.ID {
		t.Errorf("%+v, %v", again, err)
	}
	run.Again = true
	_, _, err = there.Recover(t.Context(), run)
	wantRefused(t, err, http.StatusConflict, "used for another request")
}
