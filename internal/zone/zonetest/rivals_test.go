package zonetest_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// long is how long a machine with much else to do may take.
const long = 5 * time.Minute

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) { return is(), nil }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// contested is a volume with replicas in both other zones.
func contested(t *testing.T, c *zonetest.Cloud, seed uint64) *zonetest.Journey {
	t.Helper()
	j := zonetest.NewJourney(t, c, source, 16, seed)
	j.WriteHere(0, 16)
	j.AwaitReplica("kilo1")
	j.AwaitReplica("kilo2")
	return j
}

// kvolRecovery recovers a volume in a zone by the documented API, and returns
// the job as it ended.
func kvolRecovery(t *testing.T, c *zonetest.Cloud, j *zonetest.Journey, to string) client.KvolJob {
	t.Helper()
	k := c.Kvol(to)
	rowkey, err := k.Recovery(t.Context(), client.Elsewhere{SrcZone: j.Zone, SrcType: zonetest.TypeID(j.Zone),
		Volume: j.Volume, DstZone: to, DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID(to)})
	if err != nil {
		t.Errorf("recover in %s: %v", to, err)
		return client.KvolJob{}
	}
	job, _ := k.Wait(t.Context(), "recovery", rowkey, nil) // one that fails is looked at
	return job
}

// writable reports whether a host can write to a volume.
func writable(c *zonetest.Cloud, zone, volume string) bool {
	conn := c.Open(zone, volume)
	defer conn.Close()
	_, err := conn.WriteAt(make([]byte, zonetest.BlockSize), 1<<20)
	return err == nil
}

// TestOfTwoZonesThatRecoverOneWins: with the volume's zone dead, both backup
// zones recover it at the same moment. Exactly one of them has it, and the other
// says who, as what, and since when.
func TestOfTwoZonesThatRecoverOneWins(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := contested(t, c, 31)
	c.Kill(source)
	zones := []string{"kilo1", "kilo2"}
	jobs := make([]client.KvolJob, len(zones))
	var wg sync.WaitGroup
	for i, z := range zones {
		wg.Go(func() { jobs[i] = kvolRecovery(t, c, j, z) })
	}
	wg.Wait()
	win := slices.IndexFunc(jobs, func(j client.KvolJob) bool { return j.Status == "SUCCESS" })
	if win < 0 || jobs[1-win].Status != "FAIL" || !strings.Contains(jobs[1-win].ResultMsg, "one "+zones[win]) ||
		jobs[1-win].NewVolumeID != nil {
		t.Fatalf("%+v", jobs)
	}
	t.Logf("%s has it; %s says: %s", zones[win], zones[1-win], jobs[1-win].ResultMsg)
	loser := c.Session(zones[1-win], zonetest.Alice)
	if volumes, err := loser.Volumes(t.Context(), false); err != nil || len(volumes) != 0 {
		t.Errorf("%+v, %v", volumes, err)
	}
	says := "Zone " + zones[win] + " has taken volume " + j.Volume + " of zone " + source + " over, at 2"
	req := client.Recovery{Scope: client.RecoveryScope{Volumes: []string{j.Volume}}, AcceptLoss: true}
	_, _, err := loser.Recover(t.Context(), req)
	wantRefused(t, err, http.StatusConflict, says)
	wantRefused(t, err, http.StatusConflict, *jobs[win].NewVolumeID)
	admin := c.Session(zones[1-win], zonetest.Admin)
	req.AcceptRivals = []string{zones[win]} // who answers is believed more
	_, _, err = admin.Recover(t.Context(), req)
	wantRefused(t, err, http.StatusConflict, says)
	if job := kvolRecovery(t, c, j, zones[1-win]); job.Status != "FAIL" || !strings.Contains(job.ResultMsg, says) {
		t.Errorf("%+v", job)
	}
	j.Zone, j.Volume = zones[win], *jobs[win].NewVolumeID
	j.WriteHere(3, 3)
	j.Check()
}

// TestRivalsMeetAgain: both backup zones are cut off from each other, and an
// operator on each side says of the other that it is lost. When they meet again
// the lower epoch stops writing, and nothing of what it has is lost.
func TestRivalsMeetAgain(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := contested(t, c, 33)
	c.Kill(source)
	c.Cut("kilo1", "kilo2")
	sides := map[string]*zonetest.Journey{}
	for here, there := range map[string]string{"kilo1": "kilo2", "kilo2": "kilo1"} {
		admin := c.Session(here, zonetest.Admin)
		req := client.Recovery{Scope: client.RecoveryScope{Zone: source}, AcceptLoss: true}
		_, _, err := admin.Recover(t.Context(), req)
		wantRefused(t, err, http.StatusConflict, "accept_rivals (--accept-rivals "+there+")")
		req.AcceptRivals = []string{there}
		_, _, err = c.Session(here, zonetest.Alice).Recover(t.Context(), req)
		wantRefused(t, err, http.StatusForbidden, "Only an administrator")
		op, _, err := admin.Recover(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		d, err := admin.WaitDurable(t.Context(), op.ID, nil)
		if err != nil || d.Status != "succeeded" {
			t.Fatalf("%+v, %v", d, err)
		}
		sides[here] = j.At(here, d.Steps[0].NewVolume)
	}
	wins, loses := sides["kilo2"], sides["kilo1"] // of two in the same round that of the higher index
	loses.WriteLost(4, 4)
	wins.WriteHere(0, 2)
	c.Mend("kilo1", "kilo2")
	alice := c.Session("kilo1", zonetest.Alice)
	var stale []client.Stale
	eventually(t, "the lower one is stale", func() bool {
		var err error
		stale, err = alice.Stale(t.Context())
		return err == nil && len(stale) == 1 && stale[0].State == "kept"
	})
	if stale[0].VolumeID != loses.Volume || stale[0].Zone != "kilo2" || stale[0].NewVolume != wins.Volume ||
		stale[0].DivergedBytes != 4*zonetest.BlockSize || stale[0].UndoSnapshot == "" {
		t.Errorf("%+v", stale)
	}
	if writable(c, "kilo1", loses.Volume) {
		t.Error("both take writes")
	}
	if got := c.Block("kilo1", loses.Volume, 5); string(got) != string(loses.Lost(5)) {
		t.Error("what the lower one has is destroyed")
	}
	wins.WriteHere(8, 2)
	wins.Check()
	toldOfRivals(t, c, j.Volume)
	c.Start(source)
	home := c.Session(source, zonetest.Alice)
	eventually(t, "the old volume lives on as the one that won", func() bool {
		list, err := home.Stale(t.Context())
		return err == nil && len(list) == 1 && list[0].NewVolume == wins.Volume
	})
}

// toldOfRivals wants both zones to have told of what happened.
func toldOfRivals(t *testing.T, c *zonetest.Cloud, volume string) {
	t.Helper()
	for _, name := range []string{"kilo1", "kilo2"} {
		admin := c.Session(name, zonetest.Admin)
		eventually(t, name+" tells of the rivals", func() bool {
			events, err := admin.DREvents(t.Context(), 1000)
			if err != nil {
				return false
			}
			audits, err := admin.Audits(t.Context(), client.AuditQuery{Limit: 1000})
			return err == nil && slices.ContainsFunc(events, func(e client.DREvent) bool {
				return e.Kind == "rival" && strings.Contains(e.Text, volume)
			}) && slices.ContainsFunc(audits, func(a client.Audit) bool { return a.Call == "rivals" })
		})
	}
	doctor, err := c.Session("kilo1", zonetest.Admin).Doctor(t.Context(), false)
	if err != nil || !slices.ContainsFunc(doctor.Findings, func(f client.Finding) bool {
		return f.Kind == "rival" && f.Peer == "kilo2"
	}) {
		t.Errorf("%+v, %v", doctor, err)
	}
}

// TestKilledBetweenGrantAndPromotion kills a zone that was granted a volume
// before it hears so. Until it is back nobody may take the volume over without
// an operator's word; then anybody may, and only one does.
func TestKilledBetweenGrantAndPromotion(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := contested(t, c, 34)
	c.Kill(source)
	c.Hold("kilo1", "kilo2", true) // questions arrive, answers don't
	k := c.Kvol("kilo1")
	asked := make(chan struct{})
	go func() { // its zone is killed meanwhile
		defer close(asked)
		_, _ = k.Recovery(context.Background(), client.Elsewhere{SrcZone: source, SrcType: zonetest.TypeID(source),
			Volume: j.Volume, DstZone: "kilo1", DstProject: c.Projects[zonetest.Alice], DstType: zonetest.TypeID("kilo1")})
	}()
	eventually(t, "kilo2 grants it", func() bool { return len(c.Rows("kilo2", "bids")) > 0 })
	c.Kill("kilo1")
	c.Hold("kilo1", "kilo2", false)
	<-asked
	says := "Zone kilo1 may have taken volume " + j.Volume + " of zone " + source + " over, and does not answer."
	if job := kvolRecovery(t, c, j, "kilo2"); job.Status != "FAIL" || !strings.Contains(job.ResultMsg, says) {
		t.Errorf("%+v", job)
	}
	c.Start("kilo1")
	was := *j
	j.Recover("kilo2")
	if job := kvolRecovery(t, c, &was, "kilo1"); job.Status != "FAIL" ||
		!strings.Contains(job.ResultMsg, "Zone kilo2 has taken volume") {
		t.Errorf("%+v", job)
	}
	j.WriteHere(3, 3)
	j.Check()
}

// TestKvolRecoveryWhileAThirdZoneIsCutOff: the documented API keeps its shape,
// and by the zone's configuration a silent third zone fails the job or not.
func TestKvolRecoveryWhileAThirdZoneIsCutOff(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := contested(t, c, 35)
	c.Kill(source)
	c.Cut("kilo1", "kilo2")
	if job := kvolRecovery(t, c, j, "kilo1"); job.Status != "FAIL" || job.NewVolumeID != nil ||
		!strings.Contains(job.ResultMsg, "Zone kilo2 may have taken volume") {
		t.Errorf("%+v", job)
	}
	if fences := c.Rows("kilo1", "fences"); len(fences) != 0 {
		t.Errorf("something was taken over: %v", fences)
	}
	c.Configure("kilo1", func(cfg *zone.Config) { cfg.KvolAPI.SilentRivals, cfg.IsolatedStart = "accept", "serve" })
	j.Recover("kilo1")
	j.WriteHere(3, 3)
	j.Check()
}

// TestCutOffZoneHearsOfARecoveryByAThirdOne: the zone that recovered a volume
// can't be reached any more, and the volume's own zone hears of it from who
// granted that, without a restart.
func TestCutOffZoneHearsOfARecoveryByAThirdOne(t *testing.T) {
	t.Parallel()
	c := zonetest.New(t)
	j := contested(t, c, 36)
	c.Cut(source, "kilo1")
	was := *j
	j.Recover("kilo1")
	home := c.Session(source, zonetest.Alice)
	eventually(t, "the volume's zone hears of it", func() bool {
		list, err := home.Stale(t.Context())
		return err == nil && len(list) == 1 && list[0].Zone == "kilo1" && list[0].NewVolume == j.Volume
	})
	if writable(c, source, was.Volume) {
		t.Error("both take writes")
	}
	j.Check()
}
