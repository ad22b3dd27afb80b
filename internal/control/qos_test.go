package control_test

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/client/nbd"
	"kvol/internal/control"
)

func TestQoS(t *testing.T) {
	z := newZone(t)
	one := z.make(control.NewVolume{Size: ptr(int64(1))})
	two := z.make(control.NewVolume{Size: ptr(int64(2))})
	slow := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("slow")})
	z.limitType(one.TypeID, block.QoSBoth, map[string]string{"write_iops_sec_per_gb": "5", "read_bytes_sec": "1048576"})
	z.qos = map[block.VolumeID]map[string]int64{two.ID: {"total_iops_sec": 1}}
	z.restart()
	for id, want := range map[block.VolumeID]any{
		one.ID:  map[string]any{"write_iops_sec": "5", "read_bytes_sec": "1048576"},
		two.ID:  map[string]any{"total_iops_sec": "1"},
		slow.ID: nil,
	} {
		_, info := z.connect(id, nil)
		got, _ := info.Data["qos_specs"].(map[string]any)
		wanted, _ := want.(map[string]any)
		if !maps.Equal(got, wanted) || want == nil && info.Data["qos_specs"] != nil {
			t.Errorf("qos_specs %v, want %v", info.Data["qos_specs"], want)
		}
	}
	name, _ := z.connect(two.ID, nil)
	first, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	second, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	for range 100 {
		first.Throttle(false, 0)
	}
	first.Release()
	if wait := second.Throttle(true, 0); wait < 50*time.Second {
		t.Errorf("connections don't share their volume's limit: the next waits %v", wait)
	}
	second.Release()
	again, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	defer again.Release()
	if wait := again.Throttle(true, 0); wait < 50*time.Second {
		t.Errorf("connecting again clears the debt: the next waits %v", wait)
	}
	name, _ = z.connect(slow.ID, nil)
	free, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	defer free.Release()
	if free.Throttle != nil {
		t.Error("a volume without limits is throttled")
	}
}

// limitType associates a type with new QoS specs.
func (z *zone) limitType(id block.TypeID, consumer string, specs map[string]string) block.QoSSpecs {
	z.t.Helper()
	q, err := z.CreateQoS(z.ctx, operator, block.QoSSpecs{Name: block.NewID(), Consumer: consumer, Specs: specs})
	must(z.t, err)
	must(z.t, z.AssociateQoS(z.ctx, operator, q.ID, id))
	return q
}

// TestQoSConsumer: who keeps to QoS specs is told to hosts or done here, and a
// change reaches exports that are open.
func TestQoSConsumer(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	specs := map[string]string{"total_iops_sec": "1", "vendor": "x"}
	open := func() (throttle func(bool, int64) time.Duration, hosts any) {
		name, info := z.connect(v.ID, nil)
		export, err := z.Exports().Open(z.ctx, name)
		must(t, err)
		t.Cleanup(export.Release)
		return export.Throttle, info.Data["qos_specs"]
	}
	q := z.limitType(v.TypeID, block.QoSFrontEnd, specs)
	throttle, hosts := open()
	if told, _ := hosts.(map[string]any); throttle != nil || told["total_iops_sec"] != "1" || told["vendor"] != "x" {
		t.Errorf("front-end: hosts are told %v, limited here: %v", hosts, throttle != nil)
	}
	_, err := z.UpdateQoS(z.ctx, operator, q.ID, map[string]string{"consumer": "both"})
	must(t, err)
	throttle, hosts = open()
	if hosts == nil || throttle == nil {
		t.Fatalf("both: hosts are told %v, limited here: %v", hosts, throttle != nil)
	}
	for range 10 {
		throttle(true, 0)
	}
	if wait := throttle(true, 0); wait < 5*time.Second {
		t.Errorf("a request waits %v", wait)
	}
	_, err = z.UpdateQoS(z.ctx, operator, q.ID, map[string]string{"total_iops_sec": "1000000"})
	must(t, err)
	if wait := throttle(true, 0); wait > time.Second {
		t.Errorf("after the limit was raised a request waits %v", wait)
	}
	_, err = z.UpdateQoS(z.ctx, operator, q.ID, map[string]string{"consumer": "back-end"})
	must(t, err)
	if throttle, hosts = open(); hosts != nil || throttle == nil {
		t.Errorf("back-end: hosts are told %v, limited here: %v", hosts, throttle != nil)
	}
	must(t, z.DisassociateQoS(z.ctx, operator, q.ID, v.TypeID))
	for range 1000 {
		if wait := throttle(true, 0); wait != 0 {
			t.Fatalf("without QoS specs a request waits %v", wait)
		}
	}
	if throttle, _ = open(); throttle != nil {
		t.Error("without QoS specs an export is limited")
	}
}

// TestQoSThroughNBD counts what NBD clients did against their volume's limits,
// on a clock that stands: every read and write takes its tokens, all clients of
// the volume take from the same, and what needs no device takes none.
func TestQoSThroughNBD(t *testing.T) {
	z := newZone(t)
	stands := time.Now()
	z.now = func() time.Time { return stands }
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.qos = map[block.VolumeID]map[string]int64{v.ID: {
		"read_iops_sec": 10, "read_iops_sec_max": 20, "write_bytes_sec": 4096, "write_bytes_sec_max": 10 * 4096}}
	z.restart()
	dial := z.serve()
	name, _ := z.connect(v.ID, nil)
	first, err := dial(name)
	must(t, err)
	second, err := dial(name)
	must(t, err)
	p := make([]byte, 4096)
	for i := range int64(6) { // 12 reads of 20, and 6 pages of 10
		_, err := first.ReadAt(p, i*4096)
		must(t, err)
		_, err = second.ReadAt(p, i*4096)
		must(t, err)
		_, err = first.WriteAt(p, i*4096)
		must(t, err)
		must(t, first.Flush())
	}
	e, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	defer e.Release()
	for i := range 8 {
		if wait := e.Throttle(false, 0); wait != 0 {
			t.Errorf("read %d of 20 waits %v", 13+i, wait)
		}
	}
	if wait := e.Throttle(false, 0); wait != time.Second/10 {
		t.Errorf("read 21 waits %v", wait)
	}
	if wait := e.Throttle(true, 4*4096); wait != 0 {
		t.Errorf("the last 4 of 10 pages wait %v", wait)
	}
	if wait := e.Throttle(true, 2*4096); wait != 2*time.Second {
		t.Errorf("pages 11 and 12 wait %v", wait)
	}
}

// TestQoSOfTypesThroughNBD: the QoS specs of a type limit each of its volumes by
// itself, with bursts, whoever is connected. A volume that asks for far more
// than its share waits, on a clock that stands for ever, and its neighbours of
// the same type and of others go on. A volume's own limits stand in for its
// type's.
func TestQoSOfTypesThroughNBD(t *testing.T) {
	z := newZone(t)
	stands := time.Now()
	z.now = func() time.Time { return stands }
	noisy, quiet := z.make(control.NewVolume{Size: ptr(int64(1))}), z.make(control.NewVolume{Size: ptr(int64(2))})
	own := z.make(control.NewVolume{Size: ptr(int64(1))})
	free := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("slow")})
	z.limitType(noisy.TypeID, block.QoSBackEnd, map[string]string{
		"read_iops_sec_per_gb": "10", "write_iops_sec": "10", "write_iops_sec_max": "40",
		"write_bytes_sec": "4096", "write_bytes_sec_max": "163840"})
	z.qos = map[block.VolumeID]map[string]int64{own.ID: {"total_iops_sec": 1000}}
	z.restart()
	dial := z.serve()
	conns, names := map[block.VolumeID]*nbd.Conn{}, map[block.VolumeID]string{}
	for _, v := range []block.Volume{noisy, quiet, own, free} {
		names[v.ID], _ = z.connect(v.ID, nil)
		var err error
		conns[v.ID], err = dial(names[v.ID])
		must(t, err)
	}
	p := make([]byte, 4096)
	write := func(id block.VolumeID, n int) {
		t.Helper()
		for i := range n {
			_, err := conns[id].WriteAt(p, int64(i)*4096)
			must(t, err)
		}
	}
	write(noisy.ID, 40) // the whole burst
	var held sync.WaitGroup
	var answered atomic.Int32
	for range 8 { // each has to wait for minutes, unless the connection ends
		held.Go(func() {
			_, _ = conns[noisy.ID].WriteAt(make([]byte, 1<<20), 0)
			answered.Add(1)
		})
	}
	write(quiet.ID, 40)
	write(own.ID, 100)
	write(free.ID, 400)
	_, err := conns[noisy.ID].ReadAt(p, 0) // reads have a limit of their own
	must(t, err)
	e, err := z.Exports().Open(z.ctx, names[quiet.ID])
	must(t, err)
	defer e.Release()
	if wait := e.Throttle(true, 0); wait != time.Second/10 {
		t.Errorf("write 41 of a burst of 40 waits %v", wait)
	}
	for i, want := range []time.Duration{0, 0, time.Second / 20} { // 2 GiB: 20 a second, a tenth of a second's at once
		if wait := e.Throttle(false, 0); wait != want {
			t.Errorf("read %d waits %v, want %v", i+1, wait, want)
		}
	}
	if n := answered.Load(); n > 0 {
		t.Errorf("%d writes beyond the burst were answered", n)
	}
	must(t, conns[noisy.ID].Close())
	held.Wait()
}

// TestSnapshotExports: behind @, a connection reads the snapshots of its volume
// and of no other, and what changed from one to the next.
func TestSnapshotExports(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	other := z.make(control.NewVolume{Size: ptr(int64(1))})
	dial := z.serve()
	name, _ := z.connect(v.ID, nil)
	live, err := dial(name)
	must(t, err)
	var ids []block.SnapshotID
	for i := range 3 {
		_, err := live.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 4096), int64(i)*8192)
		must(t, err)
		ids = append(ids, z.snap(v.ID).ID)
	}
	_, err = live.WriteAt([]byte("later"), 0)
	must(t, err)
	strange := z.snap(other.ID).ID
	for _, wrong := range []string{name + "@", name + "@" + string(strange), name + "@nothing",
		strings.Replace(name, ".", "@", 1)} {
		if _, err := dial(wrong); err == nil {
			t.Errorf("export %q is open", wrong)
		}
	}
	middle, err := dial(name + "@" + string(ids[1]))
	must(t, err)
	p := make([]byte, 24576)
	_, err = middle.ReadAt(p, 0)
	must(t, err)
	want := make([]byte, 24576)
	copy(want, bytes.Repeat([]byte{1}, 4096))
	copy(want[8192:], bytes.Repeat([]byte{2}, 4096))
	if !bytes.Equal(p, want) || !middle.ReadOnly() {
		t.Errorf("the snapshot reads %v..., read-only is %v", p[:4], middle.ReadOnly())
	}
	if _, err := middle.WriteAt([]byte("x"), 0); err == nil {
		t.Error("a snapshot was written to")
	}
	last, err := z.Exports().Open(z.ctx, name+"@"+string(ids[2]))
	must(t, err)
	if len(last.Since) != 2 || last.Since[0] != string(ids[0]) || last.Since[1] != string(ids[1]) {
		t.Errorf("it knows what changed since %v", last.Since)
	}
	for e, err := range last.Changed(context.Background(), string(ids[1])) {
		if err != nil || e.Off != 16384 || e.Len != 4096 {
			t.Errorf("%+v changed, %v", e, err)
		}
	}
	last.Release()
	// Its deletion ends whoever reads it, and only them.
	must(t, z.DeleteSnapshot(z.ctx, alice, ids[1]))
	z.work(z.ctx)
	if _, err := middle.ReadAt(p, 0); err == nil {
		t.Error("a deleted snapshot can be read")
	}
	if _, err := dial(name + "@" + string(ids[1])); err == nil {
		t.Error("a deleted snapshot can be opened")
	}
	if _, err := live.ReadAt(p, 0); err != nil {
		t.Errorf("the volume's own export ended: %v", err)
	}
	z.update(func(tx *catalog.Tx) error {
		if _, err := tx.Snapshot(ids[1]); !block.Is(err, block.NotFound) {
			t.Errorf("the snapshot is still there: %v", err)
		}
		return nil
	})
}
