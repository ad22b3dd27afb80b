package kvol_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/recovery"
)

var admin = block.Caller{Roles: []string{"admin"}}

type started struct {
	Message string
	Rowkey  int64
}

type row struct {
	CreateEnd   *string `json:"create_end"`
	CreateStart string  `json:"create_start"`
	NewVolume   *string `json:"new_volume_id"`
	Message     string  `json:"result_msg"`
	Status      string  `json:"status"`
	DstSVM      string  `json:"dst_svm_name"`
	SrcSVM      string  `json:"src_svm_name"`
}

// begin makes a call that starts a job.
func (z *zone) begin(call string, edit func(q map[string][]string)) int64 {
	z.t.Helper()
	q := good(call)
	if edit != nil {
		edit(q)
	}
	r := z.get("/api/kvol/" + call + "?" + q.Encode())
	if r.code != http.StatusOK {
		z.t.Fatalf("%s: %d %s", call, r.code, r.body)
	}
	var s started
	r.into(z.t, &s)
	return s.Rowkey
}

func (z *zone) row(call string, rowkey int64) row {
	z.t.Helper()
	r := z.get(fmt.Sprintf("/api/kvol/%slist?rowkey=%d", call, rowkey))
	if r.code != http.StatusOK {
		z.t.Fatalf("%slist: %d %s", call, r.code, r.body)
	}
	var list struct{ Clist []row }
	r.into(z.t, &list)
	if len(list.Clist) != 1 {
		z.t.Fatalf("%s", r.body)
	}
	return list.Clist[0]
}

func (z *zone) volume(id string) (v block.Volume) {
	z.t.Helper()
	z.must(func(tx *catalog.Tx) (err error) {
		v, err = tx.Volume(block.VolumeID(id))
		return err
	})
	return v
}

func (z *zone) content(store, id string, n int) string {
	z.t.Helper()
	v, err := z.stores[store].OpenVolume(context.Background(), block.VolumeID(id))
	z.ok(err)
	p := make([]byte, n)
	_, err = v.ReadAt(p, 4096)
	z.ok(err)
	z.ok(v.Close())
	return string(p)
}

// TestRecovery takes a volume over in the destination zone, asked for in a
// third one while its own is dead, and sees the fence wait for its return.
func TestRecovery(t *testing.T) {
	w := newLastingWorld(t)
	m, k, ask := w.zones["mitaka1"], w.zones["kilo1"], w.zones["kilo2"]
	point := k.addReplica("now")
	m.stop()
	w.restart(k) // what it knows of the dead zone is in its catalog
	rowkey := ask.begin("recovery", nil)
	if r := ask.row("recovery", rowkey); r.Status != "READY" || r.CreateEnd != nil || r.Message != "" {
		t.Fatalf("%+v", r)
	}
	k.must(func(tx *catalog.Tx) error {
		rep, err := tx.ReplicaOf("mitaka1", sourceID, 2)
		if err != nil {
			return err
		}
		pinned, err := tx.PinnedPoints(rep.ID)
		if !pinned[point.ID] {
			t.Error("the point may thin out before it is used")
		}
		return err
	})
	w.clock.Add(time.Minute.Microseconds())
	k.runJobs(1)
	r := ask.row("recovery", rowkey)
	if r.Status != "SUCCESS" || r.Message != "OK" || r.CreateStart != "2018-09-11 02:37:41" ||
		*r.CreateEnd != "2018-09-11 02:38:41" {
		t.Fatalf("%+v", r)
	}
	if got := k.content("s", *r.NewVolume, 8); got != "NOW then" {
		t.Errorf("content %q", got)
	}
	v := k.volume(*r.NewVolume)
	if v.Status != block.VolumeAvailable || v.Project != tenant || *v.Name != "data" || v.Metadata["a"] != "b" ||
		!v.Bootable || v.Epoch != 64+24 || v.TypeID != targetType || v.Backend != "k" || v.Size != 1 ||
		v.AvailabilityZone != "nova" {
		t.Errorf("the new volume is %+v", v)
	}
	k.must(func(tx *catalog.Tx) error {
		rep, err := tx.ReplicaOf("mitaka1", sourceID, 2)
		if err != nil || rep.Epoch != 64+24 || rep.Newest.ID != point.ID {
			t.Errorf("the replica is %+v, %v", rep, err)
		}
		pinned, err := tx.PinnedPoints(rep.ID)
		if len(pinned) != 0 {
			t.Errorf("pins remain: %v", pinned)
		}
		return err
	})
	fences, err := k.service.FencesFor(context.Background(), "mitaka1")
	want := block.Recovered{Zone: "kilo1", Volume: v.ID, Epoch: 64 + 24, At: epoch, Point: point.ID}
	if err != nil || len(fences) != 1 || fences[0].Source != sourceID || fences[0].Recovered != want {
		t.Errorf("fences %+v, %v", fences, err)
	}
}

// TestReturn brings the zone back of which a volume was recovered: it learns so
// from whoever answers, before it serves anything.
func TestReturn(t *testing.T) {
	w := newLastingWorld(t)
	m, k := w.zones["mitaka1"], w.zones["kilo1"]
	k.addReplica("now")
	m.must(func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: sourceID, Project: "p", Size: 1, Status: block.VolumeAvailable,
			TypeID: sourceType, Backend: "m", Epoch: 1})
	})
	m.stop()
	k.begin("recovery", nil)
	w.zones["kilo2"].stop()
	w.restart(m)
	answered, err := m.service.LearnFences(context.Background())
	if err != nil || len(answered) != 1 || answered[0] != "kilo1" {
		t.Fatalf("answered: %v, %v", answered, err)
	}
	v := m.volume(string(sourceID))
	if v.RecoveredTo == nil || v.RecoveredTo.Zone != "kilo1" || v.RecoveredTo.Epoch != 64+24 {
		t.Errorf("the volume does not know: %+v", v.RecoveredTo)
	}
	if _, err := m.service.LearnFences(context.Background()); err != nil {
		t.Errorf("learning again: %v", err)
	}
}

// TestFencesByHearsay: a zone is believed about recoveries in other ones, so that
// who returns hears of them though the zone that recovered is gone.
func TestFencesByHearsay(t *testing.T) {
	w := newWorld(t)
	m, k := w.zones["mitaka1"], w.zones["kilo1"]
	k.addReplica("now")
	k.must(func(tx *catalog.Tx) error {
		rep, err := tx.ReplicaOf("mitaka1", sourceID, 2)
		if err != nil {
			return err
		}
		_, err = tx.RaiseEpoch(rep.ID, block.Recovered{Zone: "kilo2", Volume: emptyID}, 2)
		return err
	})
	m.must(func(tx *catalog.Tx) error {
		return tx.InsertVolume(block.Volume{ID: sourceID, Project: "p", Size: 1, Status: block.VolumeAvailable,
			TypeID: sourceType, Backend: "m", Epoch: 1})
	})
	if _, err := m.service.LearnFences(context.Background()); err != nil {
		t.Fatal(err)
	}
	if to := m.volume(string(sourceID)).RecoveredTo; to == nil || to.Zone != "kilo2" || to.Volume != emptyID {
		t.Errorf("kilo1 knew, and mitaka1 did not hear: %+v", to)
	}
}

// TestCreate makes volumes of a snapshot, by clone and by copy; the source's
// right to write stays.
func TestCreate(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	k.addReplica("now")
	clone := k.begin("create", nil)
	copied := k.begin("create", func(q map[string][]string) {
		q["dst-volume-type-id"], q["bootable"] = []string{string(otherType)}, []string{"yes"}
	})
	k.runJobs(2)
	for rowkey, want := range map[int64][3]string{
		clone: {"s", "k_svm_nfs", "clone"}, copied: {"t", "k_svm_other", "copy"},
	} {
		r := k.row("create", rowkey)
		if r.Status != "SUCCESS" || r.DstSVM != want[1] || r.SrcSVM != "k_svm_nfs_bak" {
			t.Fatalf("%+v", r)
		}
		if got := k.content(want[0], *r.NewVolume, 8); got != "now then" {
			t.Errorf("content %q", got)
		}
		if v := k.volume(*r.NewVolume); v.Epoch != 1 || v.Status != block.VolumeAvailable {
			t.Errorf("%+v", v)
		}
		op, err := k.service.DROperation(context.Background(), admin, block.DRCreate, rowkey)
		if err != nil || op.Point.ID != block.PointID(snapshotID) || op.BytesDone != replicaSize ||
			!strings.Contains(string(op.Evidence), `"way":"`+want[2]+`"`) ||
			!strings.Contains(string(op.Evidence), `"root":"01000000`) {
			t.Errorf("%v\n%+v\n%s", err, op, op.Evidence)
		}
	}
	if f, err := k.service.FencesFor(context.Background(), ""); err != nil || len(f) != 0 {
		t.Errorf("a create fenced: %+v, %v", f, err)
	}
	if r := k.get(fmt.Sprintf("/api/kvol/recoverylist?rowkey=%d", clone)); r.code != http.StatusNoContent {
		t.Errorf("a create among recoveries: %d", r.code)
	}
}

// TestNotReplicatedYet shows what fails the job and not the call, and makes no
// volume and no fence.
func TestNotReplicatedYet(t *testing.T) {
	w := newWorld(t)
	m, k := w.zones["mitaka1"], w.zones["kilo1"]
	k.addReplica("now")
	const fresh, gone = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	m.must(func(tx *catalog.Tx) error {
		if err := tx.InsertVolume(block.Volume{ID: fresh, Project: "p", Size: 1, Status: block.VolumeAvailable,
			TypeID: sourceType, Backend: "m", Epoch: 1}); err != nil {
			return err
		}
		return tx.InsertSnapshot(block.Snapshot{ID: fresh, VolumeID: fresh, Project: "p", Size: 1,
			Status: block.SnapshotAvailable})
	})
	for _, c := range []struct{ call, param, id, message string }{
		{"create", "src-snapshot-id", string(lateID),
			"Snapshot " + string(lateID) + " of zone mitaka1 is not replicated yet."},
		{"recovery", "src-volume-id", string(emptyID),
			"Volume " + string(emptyID) + " of zone mitaka1 has no recovery point yet."},
		{"create", "src-snapshot-id", fresh, "Nothing of it is replicated to zone kilo1 yet."},
		{"recovery", "src-volume-id", fresh, "Nothing of it is replicated to zone kilo1 yet."},
	} {
		rowkey := k.begin(c.call, func(q map[string][]string) { q[c.param] = []string{c.id} })
		r := k.row(c.call, rowkey)
		if r.Status != "FAIL" || r.Message != c.message || r.NewVolume != nil || r.CreateEnd == nil {
			t.Errorf("%s %s: %+v", c.call, c.id, r)
		}
		q := good(c.call)
		q.Set(c.param, gone)
		if r := k.get("/api/kvol/" + c.call + "?" + q.Encode()); r.code != http.StatusNoContent {
			t.Errorf("%s of nothing: %d %s", c.call, r.code, r.body)
		}
	}
	if f, err := k.service.FencesFor(context.Background(), ""); err != nil || len(f) != 0 {
		t.Errorf("nothing was recovered, and fenced: %+v, %v", f, err)
	}
	m.stop() // what only it knew of is unknown now
	q := good("create")
	q.Set("src-snapshot-id", fresh)
	if r := k.get("/api/kvol/create?" + q.Encode()); r.code != http.StatusNoContent {
		t.Errorf("%d %s", r.code, r.body)
	}
}

// TestQuota: a create over quota fails, a recovery goes on and says so.
func TestQuota(t *testing.T) {
	k := newWorld(t).zones["kilo1"]
	k.addReplica("now")
	k.must(func(tx *catalog.Tx) error { return tx.SetQuota(tenant, "volumes", 0) })
	if r := k.row("create", k.begin("create", nil)); r.Status != "FAIL" || r.NewVolume != nil ||
		!strings.Contains(r.Message, "Maximum number of volumes allowed (0) exceeded") {
		t.Errorf("%+v", r)
	}
	rowkey := k.begin("recovery", nil)
	k.runJobs(1)
	if r := k.row("recovery", rowkey); r.Status != "SUCCESS" {
		t.Errorf("%+v", r)
	}
	op, err := k.service.DROperation(context.Background(), admin, block.DRRecovery, rowkey)
	if err != nil || len(op.Notes) != 1 ||
		!strings.Contains(string(op.Evidence), "recovered over quota: VolumeLimitExceeded") {
		t.Errorf("%v %v %s", err, op.Notes, op.Evidence)
	}
}

// TestAgain: every call starts a job, but those with one idempotency key start
// one together, in whichever zones they are made.
func TestAgain(t *testing.T) {
	w := newWorld(t)
	k := w.zones["kilo1"]
	k.addReplica("now")
	if a, b := k.begin("recovery", nil), k.begin("recovery", nil); a == b {
		t.Errorf("two calls, one rowkey: %d", a)
	}
	key := func(r *http.Request) { r.Header.Set("Idempotency-Key", "k1") }
	bodies := map[string]bool{}
	for _, z := range w.zones {
		r := z.ask(http.MethodGet, "/api/kvol/recovery?"+good("recovery").Encode(), key)
		bodies[r.body] = true
	}
	if len(bodies) != 1 || k.jobs() != 3 {
		t.Errorf("answers %v, %d jobs", bodies, k.jobs())
	}
	other := good("recovery")
	other.Set("bootable", "yes")
	if r := k.ask(http.MethodGet, "/api/kvol/recovery?"+other.Encode(), key); r.code != http.StatusBadRequest {
		t.Errorf("another request with the same key: %d %s", r.code, r.body)
	}
	k.lose.Store(true)
	w.zones["kilo2"].begin("recovery", nil)
	if k.jobs() != 4 || k.lose.Load() {
		t.Errorf("an answer was lost, and %d jobs are there", k.jobs())
	}
	// So it is with a zone that was stopped before it heard the answer.
	f := control.ForwardedDR{User: "u", Request: block.DRRequest{
		Kind: block.DRRecovery, SourceZone: "mitaka1", SourceType: sourceType, SourceVolume: sourceID,
		Destination: "kilo1", Project: tenant, DestinationType: targetType, IdempotencyKey: "forwarded/x"}}
	var one, two control.StartedDR
	kilo2 := w.zones["kilo2"]
	for _, into := range []*control.StartedDR{&one, &two} {
		kilo2.ok(kilo2.peers.Call(context.Background(), "kilo1", http.MethodPost, control.PathDR, f, into))
	}
	if one != two || k.jobs() != 5 {
		t.Errorf("forwarded twice: %v, %v, %d jobs", one, two, k.jobs())
	}
}

// TestDeadZone asks about a zone that is gone: its jobs and pairs are told from
// the copy, and marked so; nothing can be started in it.
func TestDeadZone(t *testing.T) {
	w := newLastingWorld(t)
	m, k, ask := w.zones["mitaka1"], w.zones["kilo1"], w.zones["kilo2"]
	k.addReplica("now")
	rowkey := k.begin("recovery", nil)
	k.service.TellPeers(context.Background())
	k.stop()
	m.stop()
	w.clock.Add((2 * time.Minute).Microseconds())
	for _, path := range []string{
		fmt.Sprintf("recoverylist?rowkey=%d", rowkey), "recoverylist", "show?" + good("show").Encode(),
		"list?" + good("list").Encode(),
	} {
		r := ask.get("/api/kvol/" + path)
		if r.code != http.StatusOK || r.header.Get("X-Kvol-Source") != "copy" ||
			r.header.Get("X-Kvol-As-Of") != epoch.Format(time.RFC3339) {
			t.Errorf("%s: %d %s %v", path, r.code, r.body, r.header)
		}
		if strings.HasPrefix(path, "show") &&
			(strings.Contains(r.body, `"active"`) || !strings.Contains(r.body, `"inactive"`)) {
			t.Errorf("a pair of a dead zone is active: %s", r.body)
		}
	}
	if r := ask.get("/api/kvol/recoverylist?rowkey=127"); r.code != 204 || r.header.Get("X-Kvol-Source") != "" {
		t.Errorf("its own rowkeys need no other zone: %d %v", r.code, r.header)
	}
	r := ask.get("/api/kvol/recovery?" + good("recovery").Encode())
	if r.code != http.StatusMethodNotAllowed || !strings.Contains(r.body, "Zone kilo1 can't be reached.") ||
		r.header.Get("Allow") != "" {
		t.Errorf("%d %s", r.code, r.body)
	}
	w.restart(k)
	w.clock.Add((5 * time.Second).Microseconds())
	r = ask.get(fmt.Sprintf("/api/kvol/recoverylist?rowkey=%d", rowkey))
	if r.code != http.StatusOK || r.header.Get("X-Kvol-Source") != "" {
		t.Errorf("%d %v", r.code, r.header)
	}
}

// TestKilled cuts a recovery at each of its steps by closing the catalog under
// it; after the restart there is one volume, filled.
func TestKilled(t *testing.T) {
	for _, dest := range []block.TypeID{targetType, otherType} {
		w := newLastingWorld(t)
		k := w.zones["kilo1"]
		k.addReplica("now")
		rowkey := k.begin("recovery", func(q map[string][]string) { q["dst-volume-type-id"] = []string{string(dest)} })
		w.restart(k) // killed before the job ran
		k.must(func(tx *catalog.Tx) error {
			_, ok, err := tx.ClaimJob("test", time.Minute, []string{recovery.JobKind})
			if !ok {
				t.Error("no job waits")
			}
			return err
		})
		w.restart(k) // killed while it ran
		k.runJobs(1)
		w.restart(k)
		r := k.row("recovery", rowkey)
		if r.Status != "SUCCESS" {
			t.Fatalf("%+v", r)
		}
		k.must(func(tx *catalog.Tx) error {
			all, err := tx.Volumes(block.ListQuery{Limit: -1})
			if len(all) != 1 || string(all[0].ID) != *r.NewVolume || all[0].Status != block.VolumeAvailable {
				t.Errorf("volumes %+v", all)
			}
			return err
		})
	}
}
