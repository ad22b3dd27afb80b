package zonetest_test

import (
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/client"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/zone/zonetest"
)

// crossing is a planned failover from the source to kilo1 that is stopped in one
// of its steps, and a recovery by force in kilo2 that comes then.
type crossing struct {
	t     *testing.T
	c     *zonetest.Cloud
	j     *zonetest.Journey
	gates map[string]*zonetest.Gate
	s     *client.Session
	f     client.Failover
}

// gated is a volume with replicas in two zones, whose stores have gates.
func gated(t *testing.T, seed uint64) *crossing {
	t.Helper()
	x := &crossing{t: t, gates: map[string]*zonetest.Gate{}}
	stores := map[string]driver.Driver{}
	for _, name := range zonetest.Names {
		x.gates[name] = zonetest.NewGate(mem.New(mem.Options{}))
		stores[name] = x.gates[name]
	}
	x.c = zonetest.NewOn(t, stores)
	x.j = contested(t, x.c, seed)
	x.s = x.c.Session(source, zonetest.Alice)
	return x
}

// begin begins the failover, with one gate shut, and waits until it has come
// there.
func (x *crossing) begin(zone string, at zonetest.Step) (open func(error)) {
	x.t.Helper()
	came, open := x.gates[zone].Shut(at)
	var err error
	eventually(x.t, "the failover begins", func() bool {
		x.f, err = x.s.Failover(x.t.Context(), x.j.Volume, client.FailoverTo{Destination: "kilo1"})
		if err != nil && !client.IsStatus(err, 503) { // of a machine with much else to do
			x.t.Fatal(err)
		}
		return err == nil
	})
	x.arrived(came)
	return open
}

func (x *crossing) arrived(came <-chan struct{}) {
	x.t.Helper()
	select {
	case <-came:
	case <-time.After(long):
		x.t.Fatal("nobody comes to the gate")
	}
}

// phase waits until the failover is in a phase.
func (x *crossing) phase(want block.FailoverPhase) {
	x.t.Helper()
	eventually(x.t, "the failover is "+string(want), func() bool {
		f, err := x.s.FailoverByID(x.t.Context(), x.f.ID)
		if err == nil && f.Status != "running" {
			x.t.Fatalf("it has ended: %+v", f)
		}
		return err == nil && f.Phase == string(want)
	})
}

// recover recovers by force in kilo2; the step's message has a text.
func (x *crossing) recover(status, says string) (volume string) {
	x.t.Helper()
	job := kvolRecovery(x.t, x.c, x.j, "kilo2")
	if job.Status != status || !strings.Contains(job.ResultMsg, says) {
		x.t.Fatalf("recovery: %+v", job)
	}
	if job.NewVolumeID != nil {
		volume = *job.NewVolumeID
	}
	return volume
}

// taken waits until kilo1 has a volume that can be opened.
func (x *crossing) taken() {
	x.t.Helper()
	there := x.c.Session("kilo1", zonetest.Alice)
	eventually(x.t, "kilo1 takes over", func() bool {
		volumes, err := there.Volumes(x.t.Context(), false)
		return err == nil && len(volumes) == 1 && volumes[0].Status == "available"
	})
}

// crossings are the steps of a planned failover, and who has the volume in the
// end when it is recovered by force in another zone just then.
var crossings = map[string]func(*crossing) (zone, volume string){
	"writes have stopped, the last point is not named": func(x *crossing) (string, string) {
		open := x.begin(source, zonetest.BeforeSnapshot)
		x.phase(block.FailoverDraining)
		v := x.recover("SUCCESS", "OK")
		open(nil)
		return "kilo2", v
	},
	"the destination has all, and has not heard of it": func(x *crossing) (string, string) {
		open := x.begin(source, zonetest.BeforeSnapshot)
		x.c.Cut(source, "kilo1")
		open(nil)
		x.phase(block.FailoverPromoting)
		v := x.recover("SUCCESS", "OK")
		x.c.Mend(source, "kilo1")
		return "kilo2", v
	},
	"the destination's bid is granted, and it has not heard so": func(x *crossing) (string, string) {
		open := x.begin(source, zonetest.BeforeSnapshot)
		x.c.Hold("kilo1", "kilo2", true)
		open(nil)
		eventually(x.t, "kilo2 grants it", func() bool { return len(x.c.Rows("kilo2", "bids")) > 0 })
		x.phase(block.FailoverPromoting)
		v := x.recover("SUCCESS", "OK")
		x.c.Hold("kilo1", "kilo2", false)
		return "kilo2", v
	},
	"the destination fills its volume": func(x *crossing) (string, string) {
		open := x.begin("kilo1", zonetest.BeforeClone)
		x.phase(block.FailoverPromoting)
		x.recover("FAIL", "Zone kilo1 is taking volume")
		open(nil)
		return "kilo1", ""
	},
	"the destination's volume is filled": func(x *crossing) (string, string) {
		open := x.begin("kilo1", zonetest.AfterClone)
		x.phase(block.FailoverPromoting)
		x.recover("FAIL", "Zone kilo1 is taking volume")
		open(nil)
		return "kilo1", ""
	},
	"the destination took over, and the source has not heard so": func(x *crossing) (string, string) {
		open := x.begin("kilo1", zonetest.AfterClone)
		x.c.Hold(source, "kilo1", true)
		open(nil)
		x.taken()
		x.phase(block.FailoverPromoting)
		x.recover("FAIL", "Zone kilo1 has taken volume")
		x.c.Hold(source, "kilo1", false)
		return "kilo1", ""
	},
	"the destination could not, and the source has not heard so": func(x *crossing) (string, string) {
		open := x.begin("kilo1", zonetest.BeforeClone)
		x.c.Hold(source, "kilo1", true)
		open(block.Errorf(block.NotFound, "The point is gone."))
		eventually(x.t, "kilo1 gives it up", func() bool {
			return strings.Contains(strings.Join(x.c.Rows("kilo1", "dr_jobs"), "\n"), "The point is gone.")
		})
		x.phase(block.FailoverPromoting)
		v := x.recover("SUCCESS", "OK")
		x.c.Hold(source, "kilo1", false)
		return "kilo2", v
	},
	"the source waited in vain, and the destination never heard": func(x *crossing) (string, string) {
		open := x.begin(source, zonetest.BeforeSnapshot)
		x.c.Cut(source, "kilo1")
		open(nil)
		x.phase(block.FailoverPromoting)
		x.c.SetClock(source, 2*time.Minute)
		x.phase(block.FailoverReturning)
		v := x.recover("SUCCESS", "OK")
		x.c.Mend(source, "kilo1")
		return "kilo2", v
	},
	"the source waited in vain while the destination takes over": func(x *crossing) (string, string) {
		open := x.begin("kilo1", zonetest.BeforeClone)
		x.c.Cut(source, "kilo1")
		x.c.SetClock(source, 2*time.Minute)
		x.phase(block.FailoverReturning)
		x.recover("FAIL", "Zone kilo1 is taking volume")
		open(nil)
		x.taken()
		x.recover("FAIL", "Zone kilo1 has taken volume")
		x.c.Mend(source, "kilo1")
		return "kilo1", ""
	},
}

// TestForcedRecoveryDuringAPlannedFailover recovers a volume by force in a third
// zone in each step of its planned failover to a second one. Exactly one of the
// three takes writes when all has ended, and it has all that was acknowledged
// before.
func TestForcedRecoveryDuringAPlannedFailover(t *testing.T) {
	const seed = uint64(320)
	for name, cross := range crossings {
		seed := seed + uint64(len(name))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := gated(t, seed)
			was := *x.j
			zone, volume := cross(x)
			eventually(t, "the failover ends", func() bool {
				f, err := x.s.FailoverByID(t.Context(), x.f.ID)
				x.f = f
				return err == nil && f.Status != "running"
			})
			if (x.f.Status == "success") != (zone == "kilo1") {
				t.Fatalf("%s was to have it: %+v", zone, x.f)
			}
			if volume == "" {
				volume = x.f.NewVolume
			}
			eventually(t, "the volume's zone hears where it lives on", func() bool {
				list, err := x.s.Stale(t.Context())
				return err == nil && len(list) == 1 && list[0].Zone == zone && list[0].NewVolume == volume
			})
			if writable(x.c, source, was.Volume) {
				t.Error("the volume takes writes where it was")
			}
			for _, other := range []string{"kilo1", "kilo2"} {
				volumes, err := x.c.Session(other, zonetest.Alice).Volumes(t.Context(), false)
				for _, v := range volumes {
					if v.Status == "available" && v.ID != volume {
						err = block.Errorf(block.Conflict, "zone %s has volume %s, too", other, v.ID)
					}
				}
				if err != nil {
					t.Error(err)
				}
			}
			x.j.Zone, x.j.Volume = zone, volume
			x.j.WriteHere(3, 3)
			x.j.Check()
		})
	}
}

// TestFailedRecoveryGivesWay: a recovery by force that failed for good is no
// hindrance to another zone, and what is left of it can only be deleted.
func TestFailedRecoveryGivesWay(t *testing.T) {
	t.Parallel()
	x := gated(t, 340)
	x.c.Kill(source)
	came, open := x.gates["kilo1"].Shut(zonetest.BeforeClone)
	ended := make(chan client.KvolJob)
	go func() { ended <- kvolRecovery(t, x.c, x.j, "kilo1") }()
	x.arrived(came)
	x.recover("FAIL", "Zone kilo1 has taken volume") // its epoch rose; it may yet succeed
	open(block.Errorf(block.NotFound, "The point is gone."))
	failed := <-ended
	if failed.Status != "FAIL" || failed.NewVolumeID == nil {
		t.Fatalf("%+v", failed)
	}
	left := *failed.NewVolumeID
	was := *x.j
	x.j.Zone, x.j.Volume = "kilo2", x.recover("SUCCESS", "OK")
	x.j.WriteHere(3, 3)
	x.j.Check()
	admin := x.c.Session("kilo1", zonetest.Admin)
	err := admin.VolumeAction(t.Context(), left, "os-reset_status", map[string]any{"status": "available"}, nil)
	wantRefused(t, err, 400, "it can only be deleted")
	if job := kvolRecovery(t, x.c, &was, "kilo1"); job.Status != "FAIL" ||
		!strings.Contains(job.ResultMsg, "Zone kilo2 has taken volume") {
		t.Errorf("%+v", job)
	}
	alice := x.c.Session("kilo1", zonetest.Alice)
	v, err := alice.Volume(t.Context(), left)
	if err != nil || v.Status != "error" {
		t.Errorf("%+v, %v", v, err)
	}
	if stale, err := alice.Stale(t.Context()); err != nil || len(stale) != 0 {
		t.Errorf("what never lived is stale: %+v, %v", stale, err)
	}
	if err := alice.DeleteVolume(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is deleted", func() bool {
		_, err := alice.Volume(t.Context(), left)
		return client.IsStatus(err, 404)
	})
	x.j.Check()
}
