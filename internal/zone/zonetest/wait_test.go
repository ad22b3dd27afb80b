package zonetest_test

import (
	"errors"
	"strings"
	"testing"

	"kvol/internal/client"
	"kvol/internal/zone/zonetest"
)

// TestWaitWhereTheJobIsNotKnownYet: a job is followed at a zone that can't reach the
// one where it runs, and was told nothing of it. Once it can, the job is followed.
func TestWaitWhereTheJobIsNotKnownYet(t *testing.T) {
	t.Parallel()
	const asked = "kilo2"
	c := zonetest.New(t)
	j := zonetest.NewJourney(t, c, source, 8, 1)
	j.WriteHere(0, 8)
	sn, err := c.Session(source, zonetest.Alice).CreateSnapshot(t.Context(), client.NewSnapshot{VolumeID: j.Volume,
		Force: true})
	if err != nil {
		t.Fatal(err)
	}
	awaitSnapshot(t, c, j.Volume, sn.ID)
	c.Cut(asked, to)
	rowkey, err := c.Kvol(to).Create(t.Context(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
		Snapshot: sn.ID, DstZone: to, DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	if err != nil {
		t.Fatal(err)
	}
	k := c.Kvol(asked)
	if _, err := k.Jobs(t.Context(), "create", rowkey, 0); !errors.Is(err, client.ErrNoData) {
		t.Fatalf("what is asked knows of it: %v", err)
	}
	answered := func() int {
		n := 0
		for line := range strings.Lines(metricsOf(t, c.URL(asked))) {
			if strings.HasPrefix(line, "kvol_http_requests_total{") && strings.Contains(line, `code="204"`) &&
				strings.Contains(line, "/createlist") {
				n++
				if !strings.HasSuffix(strings.TrimSpace(line), "} 1") {
					n++
				}
			}
		}
		return n
	}
	type end struct {
		job client.KvolJob
		err error
	}
	ended := make(chan end, 1)
	go func() {
		for {
			job, err := k.Wait(t.Context(), "create", rowkey, nil)
			if !errors.Is(err, client.ErrNoData) { // the zone needed more than the time that is given to it
				ended <- end{job, err}
				return
			}
		}
	}()
	eventually(t, "it is followed and not known", func() bool { return answered() > 1 })
	c.Mend(asked, to)
	if e := <-ended; e.err != nil || e.job.Status != "SUCCESS" || e.job.NewVolumeID == nil {
		t.Errorf("%+v, %v", e.job, e.err)
	}
}
