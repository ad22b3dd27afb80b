package zonetest_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// TestBenchDrill prints what a drill does to the RPO of volumes that are written
// to all the time: KVOL_BENCH_DRILL seconds before, as long while it has clones
// of all of them and reads them, and as long after. Nothing may be sent again.
func TestBenchDrill(t *testing.T) {
	seconds, err := strconv.Atoi(os.Getenv("KVOL_BENCH_DRILL"))
	if err != nil {
		t.Skip("KVOL_BENCH_DRILL is no number of seconds")
	}
	c := zonetest.NewWith(t, func(cfg *zone.Config) {
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "hold", Timeout: time.Hour,
			Command: []string{"/bin/sleep", strconv.Itoa(seconds)}}}}
	})
	all := protect(t, c, 8)
	var open []*nbd.Conn
	for _, j := range all {
		open = append(open, c.Open(source, j.Volume))
	}
	stop, writing := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(writing)
		block := make([]byte, zonetest.BlockSize)
		for n := 0; ; n++ {
			block[n%len(block)]++
			for _, conn := range open {
				if _, err := conn.WriteAt(block, int64(n%8)*zonetest.BlockSize); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	s := c.Session(to, zonetest.Admin)
	op, err := s.StartDrill(t.Context(), client.Drill{Scope: client.RecoveryScope{Zone: source}, WatchSeconds: seconds,
		Probes: []client.DrillProbe{{Kind: "verify"}, {Kind: "command", Name: "hold"}, {Kind: "verify"}}})
	if err != nil {
		t.Fatal(err)
	}
	r := drilled(t, s, op.ID)
	close(stop)
	<-writing
	for _, conn := range open {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(r.Pairs) != 1 || r.CopiedAgain != 0 || r.RTO == nil {
		t.Fatalf("%+v", r)
	}
	p := r.Pairs[0]
	t.Logf("drill: RPO during/before: median %.3f s / %.3f s = %.2f, p99 %.3f s / %.3f s = %.2f, worst %.3f s / %.3f s; "+
		"%d points meanwhile, %d sent whole; %d volumes served after %.3f s, verdict %s", p.During.Median, p.Before.Median,
		p.During.Median/p.Before.Median, p.During.P99, p.Before.P99, p.During.P99/p.Before.P99, p.During.Worst,
		p.Before.Worst, p.Points, p.Whole, len(r.Volumes), *r.RTO, r.Verdict)
}
