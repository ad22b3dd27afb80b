package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/backup"
	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
	"kvol/internal/placement"
)

// racks is a zone of three backends on stores of their own that one type names:
// "r1" and "r2" in availability zone kr-a, "r3" in kr-b. Each store has 10 GiB.
func racks(t *testing.T, change func(*control.Placing)) *zone {
	t.Helper()
	z := newZone(t)
	z.rack(change)
	return z
}

// rack makes a zone one of racks.
func (z *zone) rack(change func(*control.Placing)) {
	t := z.t
	t.Helper()
	stores := map[string]driver.Driver{"one": z.fast, "two": z.slow}
	backends := []block.Backend{{Name: "fast", Store: "one"}, {Name: "slow", Store: "two"}}
	z.racks = map[string]*drivertest.Faults{}
	rules := map[string]control.PlaceRules{}
	for _, name := range []string{"r1", "r2", "r3"} {
		z.racks[name] = drivertest.NewFaults(mem.New(mem.Options{Capacity: 10 * block.GiB}))
		stores[name], backends = z.racks[name], append(backends, block.Backend{Name: name, Store: name})
		rules[name] = control.PlaceRules{Name: "rack", Zones: []string{"kr-a"}, Ratio: 2}
	}
	rules["r3"] = control.PlaceRules{Name: "rack", Zones: []string{"kr-b"}, Ratio: 2}
	placing := control.Placing{Backends: rules}
	if change != nil {
		change(&placing)
	}
	z.update(func(tx *catalog.Tx) error {
		for name, specs := range map[string]map[string]string{
			"rack":       {"volume_backend_name": "rack"},
			"thick rack": {"volume_backend_name": "rack", "provisioning:type": "thick"},
			"any rack":   {"volume_backend_name": "rack", "RESKEY:availability_zones": "kr-b,kr-a"},
		} {
			vt := block.VolumeType{ID: block.TypeID(block.NewID()), Name: name, Public: true, ExtraSpecs: specs}
			if err := tx.UpsertType(vt); err != nil {
				return err
			}
		}
		return nil
	})
	set, err := driver.NewSet(stores, backends)
	must(t, err)
	repository, err := backup.New(z.vault, backup.Options{Zone: "mitaka1", Uploads: 2})
	must(t, err)
	z.Service, err = control.New(control.Config{Catalog: z.catalog, Backends: set, Zone: "mitaka1", DefaultType: "fast",
		AvailabilityZones: []string{"kr-a", "kr-b"}, Key: [32]byte{1}, TempDir: z.temp, Placing: placing, Now: z.now,
		Backups: repository})
	must(t, err)
}

func (z *zone) put(size int64, typeName string, change func(*control.NewVolume)) block.Volume {
	z.t.Helper()
	req := control.NewVolume{Size: &size, VolumeType: &typeName}
	if change != nil {
		change(&req)
	}
	v, err := z.CreateVolume(z.ctx, alice, req)
	must(z.t, err)
	return v
}

// wantNowhere waits for a volume that no backend takes: it is in error, its
// project is told without a reason, and operators are told each one's.
func (z *zone) wantNowhere(v block.Volume, filters ...string) {
	z.t.Helper()
	if v.Backend != "" || v.Status != block.VolumeCreating {
		z.t.Errorf("a volume that has no place is %s on %q", v.Status, v.Backend)
	}
	z.work(z.ctx)
	if got := z.volume(v.ID); got.Status != block.VolumeError {
		z.t.Errorf("a volume that has no place is %s in the end", got.Status)
	}
	z.wantMessage("schedule allocate volume:Could not find any available weighted backend.")
	all, err := z.Placements(z.ctx, operator, v.ID, 0, 1)
	must(z.t, err)
	if len(all) != 1 || all[0].Backend != "" || all[0].Project != alice.Project || all[0].What != "create" {
		z.t.Fatalf("placements %+v", all)
	}
	for _, f := range filters {
		if !slices.ContainsFunc(all[0].Refused, func(r block.BackendRefusal) bool {
			return r.Backend+" "+r.Filter == f && r.Reason != ""
		}) {
			z.t.Errorf("%s is not told: %+v", f, all[0].Refused)
		}
	}
	must(z.t, z.DeleteVolume(z.ctx, alice, v.ID, false))
	z.work(z.ctx)
	if _, err := z.Volume(z.ctx, alice, v.ID); !block.Is(err, block.NotFound) {
		z.t.Errorf("a volume without a place was deleted: %v", err)
	}
}

// TestPlaces: volumes of one type spread over its backends by room, within their
// availability zone, and where no room is left are in error.
func TestPlaces(t *testing.T) {
	z := racks(t, nil)
	var at []string
	for _, size := range []int64{8, 4, 4, 12, 12} { // 20 GiB each
		at = append(at, z.put(size, "rack", nil).Backend)
	}
	if got := strings.Join(at, " "); got != "r1 r2 r2 r1 r2" {
		t.Errorf("volumes lie on %s", got)
	}
	if v := z.put(20, "any rack", nil); v.Backend != "r3" || v.AvailabilityZone != "kr-b" {
		t.Errorf("a volume in whatever zone is on %s in %s", v.Backend, v.AvailabilityZone)
	}
	z.work(z.ctx)
	z.settled()
	z.wantNowhere(z.put(1, "rack", nil), "r1 CapacityFilter", "r2 CapacityFilter", "r3 AvailabilityZoneFilter",
		"fast CapabilitiesFilter")
	z.wantNowhere(z.put(1, "rack", func(r *control.NewVolume) { r.AvailabilityZone = ptr("kr-b") }),
		"r1 AvailabilityZoneFilter", "r3 CapacityFilter")
	pools, err := z.Pools(z.ctx, operator)
	must(t, err)
	for _, p := range pools {
		if p.Store == "one" || p.Store == "two" {
			continue
		}
		if p.Name != "rack" || p.Promised != 20 || p.Allocated != 20 || p.Ratio() != 2 || p.Total != 10 || p.Free != 10 ||
			!p.Takes(block.VolumeType{ExtraSpecs: map[string]string{"volume_backend_name": "rack"}}) ||
			!p.Takes(block.VolumeType{ExtraSpecs: map[string]string{"volume_backend_name": p.Backend}}) ||
			p.Takes(block.VolumeType{ExtraSpecs: map[string]string{"volume_backend_name": "fast"}}) {
			t.Errorf("pool %+v", p)
		}
	}
}

// TestLastPlaceRace: of many that ask at once for what is left as many get it as
// there is room for.
func TestLastPlaceRace(t *testing.T) {
	for _, typeName := range []string{"rack", "thick rack"} {
		z := newZone(t)
		began := time.Now()
		z.now = func() time.Time { return began } // stores are asked for their room once
		z.rack(nil)
		must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes": -1, "gigabytes": -1}))
		room := map[string]int64{"rack": 20, "thick rack": 10}[typeName]
		var asking sync.WaitGroup
		for range 40 {
			asking.Go(func() { z.put(3, typeName, nil) })
		}
		asking.Wait()
		must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
			rooms, err := tx.BackendRooms()
			for _, r := range rooms {
				if want := room / 3; r.Backend != "" && r.Volumes != want {
					t.Errorf("%s: %d volumes on %s, want %d", typeName, r.Volumes, r.Backend, want)
				}
			}
			if len(rooms) != 3 {
				t.Errorf("%s: volumes on %+v", typeName, rooms)
			}
			return err
		}))
		z.work(z.ctx)
		z.settled()
	}
}

// TestAnotherBackend: a volume whose backend fails is made on another one, up to
// as many as may be tried, and nothing of it stays behind.
func TestAnotherBackend(t *testing.T) {
	down := block.Errorf(block.Unavailable, "The store does not answer.")
	full := block.Errorf(block.NoSpace, "The store is full.")
	for name, tt := range map[string]struct {
		fails map[string]error
		want  string // "" for error
	}{
		"full":         {map[string]error{"r1": full}, "r2"},
		"down":         {map[string]error{"r1": down}, "r2"},
		"both":         {map[string]error{"r1": full, "r2": errors.New("odd")}, "r3"},
		"all are full": {map[string]error{"r1": full, "r2": full, "r3": full}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			z := racks(t, nil)
			for at, cause := range tt.fails {
				z.racks[at].SetRule(func(c drivertest.Call) error {
					if c.Op == drivertest.OpCreateVolume && !c.After {
						return cause
					}
					return nil
				})
			}
			v := z.put(1, "rack", func(r *control.NewVolume) { r.VolumeType = ptr("any rack") })
			if v.Backend != "r1" {
				t.Fatalf("the volume is first on %s", v.Backend)
			}
			z.work(z.ctx)
			got := z.volume(v.ID)
			if tt.want == "" {
				if got.Status != block.VolumeError {
					t.Errorf("the volume is %s on %s", got.Status, got.Backend)
				}
				z.wantMessage("schedule allocate volume:Could not find any available weighted backend.")
				return
			}
			if got.Status != block.VolumeAvailable || got.Backend != tt.want {
				t.Errorf("the volume is %s on %s, want %s", got.Status, got.Backend, tt.want)
			}
			all, err := z.Placements(z.ctx, operator, v.ID, 0, 10)
			must(t, err)
			if len(all) != len(tt.fails) || all[0].Backend != tt.want || all[len(all)-1].Failed != "r1" || all[0].Error == "" {
				t.Errorf("placements %+v", all)
			}
			for at, d := range z.racks {
				for info, err := range d.Volumes(z.ctx) {
					must(t, err)
					if at != tt.want {
						t.Errorf("volume %s is left on %s", info.ID, at)
					}
				}
			}
		})
	}
}

// TestAnotherAfterWreck: what the failed backend has of a volume is removed.
func TestAnotherAfterWreck(t *testing.T) {
	z := racks(t, func(p *control.Placing) { p.Attempts = 2 })
	var once sync.Once
	z.racks["r1"].SetRule(func(c drivertest.Call) (err error) {
		if c.Op == drivertest.OpCreateVolume && c.After { // it was made, and that is not heard
			once.Do(func() { err = block.Errorf(block.Unavailable, "The connection broke.") })
		}
		return err
	})
	v := z.put(1, "rack", nil)
	z.work(z.ctx)
	if got := z.volume(v.ID); got.Status != block.VolumeAvailable || got.Backend != "r2" {
		t.Errorf("the volume is %s on %s", got.Status, got.Backend)
	}
	for info, err := range z.racks["r1"].Volumes(z.ctx) {
		t.Errorf("left: %v, %v", info, err)
	}
	z.settled()
}

// TestAnotherWhileItIsFilled: a backend that takes a volume and not its bytes has failed
// too; a source that can't be read has not.
func TestAnotherWhileItIsFilled(t *testing.T) {
	for _, tt := range []struct {
		op      drivertest.Op
		another bool
	}{{drivertest.OpWrite, true}, {drivertest.OpFlush, true}, {drivertest.OpReadSnapshot, false}} {
		t.Run(string(tt.op), func(t *testing.T) {
			z := racks(t, nil)
			a := z.put(1, "any rack", nil)
			z.work(z.ctx)
			z.write(a, []byte("abc"), 0)
			v := z.put(1, "any rack", func(r *control.NewVolume) {
				r.SourceVolumeID, r.Hints = &a.ID, control.Hints{Different: []block.VolumeID{a.ID}}
			})
			at := map[bool]string{true: v.Backend, false: a.Backend}[tt.another]
			var failed atomic.Bool
			z.racks[at].SetRule(func(c drivertest.Call) error {
				if c.Op == tt.op && !c.After && !failed.Swap(true) {
					return errors.New("odd")
				}
				return nil
			})
			z.work(z.ctx)
			got := z.volume(v.ID)
			if got.Status != block.VolumeAvailable || (got.Backend != v.Backend) != tt.another || !failed.Load() {
				t.Fatalf("the volume is %s on %s, first it was on %s", got.Status, got.Backend, v.Backend)
			}
			if tt.another {
				for info, err := range z.racks[v.Backend].Volumes(z.ctx) {
					t.Errorf("left: %v, %v", info, err)
				}
			}
			if is := z.content(got, 3); is != "abc" {
				t.Errorf("it holds %q", is)
			}
		})
	}
}

// TestPlaceNear: clones lie where their source does, as long as it has room and
// the type may; hints are kept to; other tenants' volumes are not there.
func TestPlaceNear(t *testing.T) {
	z := racks(t, func(p *control.Placing) {
		for name, r := range p.Backends {
			r.Zones = nil
			p.Backends[name] = r
		}
	})
	a := z.put(5, "rack", nil) // r1, which is then the fullest
	z.work(z.ctx)
	clone := func(size int64) block.Volume {
		return z.put(size, "rack", func(r *control.NewVolume) { r.SourceVolumeID = &a.ID })
	}
	if v := clone(5); a.Backend != "r1" || v.Backend != "r1" {
		t.Errorf("a clone of a volume on %s lies on %s", a.Backend, v.Backend)
	}
	z.work(z.ctx)
	far := clone(15)
	if far.Backend == "r1" {
		t.Error("a clone lies where it has no room")
	}
	z.work(z.ctx)
	if got := z.volume(far.ID); got.Status != block.VolumeAvailable {
		t.Errorf("a clone that is a copy is %s", got.Status)
	}
	hinted := func(h control.Hints) block.Volume {
		return z.put(1, "rack", func(r *control.NewVolume) { r.Hints = h })
	}
	if v := hinted(control.Hints{Same: []block.VolumeID{a.ID}}); v.Backend != "r1" {
		t.Errorf("with another one on r1 a volume lies on %s", v.Backend)
	}
	if v := hinted(control.Hints{Different: []block.VolumeID{a.ID, far.ID}}); v.Backend == "r1" ||
		v.Backend == far.Backend {
		t.Errorf("away from two a volume lies on %s", v.Backend)
	}
	theirs, err := z.CreateVolume(z.ctx, mallory, control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("rack")})
	must(t, err)
	z.work(z.ctx)
	if v := hinted(control.Hints{Different: []block.VolumeID{theirs.ID}, Same: nil}); v.Backend == "" {
		t.Error("another project's volume keeps one away")
	}
	z.work(z.ctx)
	z.wantNowhere(hinted(control.Hints{Same: []block.VolumeID{theirs.ID}}), "r1 SameBackendFilter")
	z.wantNowhere(hinted(control.Hints{Unreadable: true}), "r1 SameBackendFilter")
	z.wantNowhere(hinted(control.Hints{Same: []block.VolumeID{a.ID}, Different: []block.VolumeID{a.ID}}),
		"r1 DifferentBackendFilter", "r2 SameBackendFilter")
}

// TestPlaceOfGroup: a group's volumes lie on one store, whatever room others have.
func TestPlaceOfGroup(t *testing.T) {
	z := racks(t, func(p *control.Placing) { p.Weights = placement.Weights{Capacity: 1} })
	g, err := z.CreateGroup(
		z.ctx,
		alice,
		control.NewGroup{Type: z.groupType(nil), VolumeTypes: []string{"rack", "any rack"}},
	)
	must(t, err)
	var at []string
	for range 3 {
		at = append(at, z.put(5, "rack", func(r *control.NewVolume) { r.GroupID = &g.ID }).Backend)
	}
	if slices.ContainsFunc(at, func(b string) bool { return b != at[0] || b == "" }) {
		t.Errorf("a group's volumes lie on %s", at)
	}
	z.work(z.ctx)
	more := z.put(6, "rack", func(r *control.NewVolume) { r.GroupID = &g.ID })
	all, err := z.Placements(z.ctx, operator, more.ID, 0, 1)
	must(t, err)
	if more.Backend != "" || len(all) != 1 || !slices.ContainsFunc(all[0].Refused, func(r block.BackendRefusal) bool {
		return r.Backend == at[0] && r.Filter == placement.CapacityFilter
	}) {
		t.Errorf("a group's volume for which its store has no room lies on %q, %+v", more.Backend, all)
	}
	z.work(z.ctx)
}

// TestRoomForMoves: what moves to a backend has its room there from when it is
// asked for, and there is no extension or move without room.
func TestRoomForMoves(t *testing.T) {
	z := racks(t, nil)
	a := z.put(12, "rack", nil) // r1
	b := z.put(12, "rack", nil) // r2
	z.work(z.ctx)
	migrate := func(v block.VolumeID, to string) error {
		return z.MigrateVolume(z.ctx, operator, v, control.Migration{Backend: to, Host: "kvol@" + to})
	}
	must(t, migrate(a.ID, "r2"))
	if got := z.volume(a.ID); got.MigrationStatus != block.MigrationError || got.Backend != "r1" {
		t.Errorf("a volume without room elsewhere: %q", got.MigrationStatus)
	}
	z.wantMessage("schedule allocate volume:Could not find any available weighted backend.")
	must(t, z.ExtendVolume(z.ctx, alice, a.ID, 21))
	if got := z.volume(a.ID); got.Size != 12 || got.Status != block.VolumeAvailable {
		t.Errorf("a volume without room to grow has %d GiB and is %s", got.Size, got.Status)
	}
	z.wantMessage("extend volume:Could not find any available weighted backend.")
	must(t, z.ExtendVolume(z.ctx, alice, a.ID, 13))
	must(t, migrate(b.ID, "r3"))
	if v := z.put(9, "rack", func(r *control.NewVolume) { r.AvailabilityZone = ptr("kr-b") }); v.Backend != "" {
		t.Error("a volume got the room of one that moves")
	}
	z.work(z.ctx)
	if got := z.volume(b.ID); got.Backend != "r3" || got.MigrationStatus != block.MigrationSuccess {
		t.Errorf("the volume is on %s, %q", got.Backend, got.MigrationStatus)
	}
	moved := z.make1("fast")
	z.work(z.ctx)
	must(t, z.RetypeVolume(z.ctx, alice, moved, "rack", control.MigrateOnDemand))
	z.work(z.ctx)
	if got := z.volume(moved); got.Backend != "r2" || got.TypeName != "rack" {
		t.Errorf("a volume that became a rack's is %s on %s", got.TypeName, got.Backend)
	}
	z.settled()
}

// TestPlacementsAreForOperators: tenants learn nothing of backends.
func TestPlacementsAreForOperators(t *testing.T) {
	z := newZone(t)
	for _, c := range []block.Caller{alice, reader, {}} {
		if _, err := z.Placements(z.ctx, c, "", 0, 1); !block.Is(err, block.Forbidden) {
			t.Errorf("%s: %v", c.User, err)
		}
	}
	if _, err := z.Placements(context.Background(), operator, "", 0, 0); !block.Is(err, block.Invalid) {
		t.Errorf("no limit: %v", err)
	}
}

// placeMethods are those that tell operators of backends: see
// TestPlacementsAreForOperators.
var placeMethods = []string{"Placements"}
