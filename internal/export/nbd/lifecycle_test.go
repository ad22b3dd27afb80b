package nbd_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/nbd"
)

// hold makes calls of op wait in the device until release is called; entered
// gets a token when one begins to wait.
func (s *shelf) hold(op drivertest.Op) (entered <-chan struct{}, release func()) {
	in, gate := make(chan struct{}, 1000), make(chan struct{})
	s.Faults.SetRule(func(c drivertest.Call) error {
		if c.Op == op && !c.After {
			in <- struct{}{}
			<-gate
		}
		return nil
	})
	return in, func() { close(gate) }
}

func TestSlowRequestsHoldUpNoOthers(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	entered, release := s.hold(drivertest.OpFlush)
	w.request(3, 0, 0, 0)
	<-entered
	for range 100 {
		w.request(1, 0, 0, 4, 1, 2, 3, 4)
		w.plain(1, 0)
		w.request(0, 0, 0, 4)
		w.plain(0, 0)
		w.expect([]byte{1, 2, 3, 4})
		w.request(0, 0, 0, 1<<20)
		w.plain(0, 0)
		w.read(1 << 20)
	}
	release()
	w.plain(3, 0)
}

// TestSlowReads: reads that take long are left to workers, so that they wait
// for the store together.
func TestSlowReads(t *testing.T) {
	s := newShelf(t, testSize)
	var clock atomic.Int64
	start := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { return start.Add(time.Duration(clock.Add(1)) * time.Second) } // everything takes long
	path, _ := serve(t, nbd.Config{Exports: s, Now: now})
	w := enter(t, path, "vol", false)
	w.request(0, 0, 0, 1)
	w.plain(0, 0)
	w.read(1)
	const reads = 8
	entered, release := s.hold(drivertest.OpRead)
	var batch []byte
	for range reads {
		batch = append(batch, be(reqMagic, uint16(0), uint16(0), cookie(0), int64(0), 1)...)
	}
	batch = append(batch, be(reqMagic, uint16(0), uint16(3), cookie(3), int64(0), 0)...)
	w.send(batch)
	for range reads {
		<-entered // all of them, none waits for another
	}
	w.plain(3, 0)
	release()
	for range reads {
		w.plain(0, 0)
		w.read(1)
	}
}

func TestRevoked(t *testing.T) {
	s := newShelf(t, testSize)
	path, stop := serve(t, nbd.Config{Exports: s})
	w, idle := enter(t, path, "vol", false), enter(t, path, "vol", false)
	entered, release := s.hold(drivertest.OpWrite)
	var batch []byte
	for range 10 {
		batch = append(batch, be(reqMagic, uint16(0), uint16(1), cookie(1), int64(0), 1, []byte{9})...)
		batch = append(batch, be(reqMagic, uint16(fua), uint16(1), cookie(1), int64(0), 1, []byte{9})...)
	}
	w.send(batch)
	<-entered
	close(s.Revoked)
	w.gone()
	idle.gone()
	release()
	stop()
	// The one that was under way ended; those that waited in buffers never began.
	if n := s.Faults.Calls(drivertest.OpWrite); n != 1 {
		t.Errorf("%d writes reached the device", n)
	}
	if n := s.Uses.Load(); n != 0 {
		t.Errorf("%d exports are still open", n)
	}
}

func TestRevokedInHandshake(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := dial(t, path)
	w.greet(3)
	w.option(6, named("vol"), uint16(0))
	w.answer(6, 3)
	w.answer(6, 1)
	close(s.Revoked)
	w.option(7, named("vol"), uint16(0))
	w.answer(7, 3)
	w.answer(7, 1)
	w.gone()
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	s := newShelf(t, testSize)
	path, stop := serve(t, nbd.Config{Exports: s, Limits: nbd.Limits{Grace: time.Hour}})
	w, idle := enter(t, path, "vol", false), enter(t, path, "vol", true)
	entered, release := s.hold(drivertest.OpFlush)
	w.request(3, 0, 0, 0)
	<-entered
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	idle.gone()
	release()
	w.plain(3, 0)
	w.gone()
	<-stopped
}

func TestStopDoesNotWaitForDeafClients(t *testing.T) {
	s := newShelf(t, 64<<20)
	path, stop := serve(t, nbd.Config{Exports: s, Limits: nbd.Limits{Grace: time.Millisecond}})
	w := enter(t, path, "blind", false)
	w.request(0, 0, 0, 32<<20)
	w.read(16) // the rest does not fit into the socket
	stop()
}

func TestDiscWaitsForReplies(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	entered, release := s.hold(drivertest.OpFlush)
	w.request(3, 0, 0, 0)
	<-entered
	w.request(2, 0, 0, 0)
	release()
	w.plain(3, 0)
	w.gone()
}

// TestDiscAtOnce: requests that come together with the farewell are answered.
func TestDiscAtOnce(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	w := enter(t, path, "vol", false)
	request := func(cmd uint16, n int) []byte { return be(reqMagic, uint16(0), cmd, cookie(cmd), int64(0), n) }
	w.send(request(1, 3), "abc", request(0, 3), request(2, 0))
	w.plain(1, 0)
	w.plain(0, 0)
	w.expect("abc")
	w.gone()
}

func TestClientGoesWhileRequestsAreUnderWay(t *testing.T) {
	s := newShelf(t, testSize)
	path, stop := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	entered, release := s.hold(drivertest.OpFlush)
	for range 3 {
		w.request(3, 0, 0, 0)
		<-entered
	}
	w.Close()
	release()
	stop()
	if n := s.Uses.Load(); n != 0 {
		t.Errorf("%d exports are still open", n)
	}
}

// telling is a device that tells when its size is asked for, as each request does
// before it is carried out.
type telling struct {
	driver.Device
	asked func()
}

func (d *telling) Size() int64 {
	d.asked()
	return d.Device.Size()
}

// TestClientIsResetWhileWritesAreGathered: a reply fails while the reader holds a
// write that waits for the one behind it. The connection ends nevertheless.
func TestClientIsResetWhileWritesAreGathered(t *testing.T) {
	asked := func() {}
	prepare := func(s *shelf) { s.Device = &telling{s.Device, func() { asked() }} }
	pipe(t, prepare, func(t *testing.T, s *shelf, w *wire, _ func()) {
		gate, failed := make(chan struct{}), make(chan struct{})
		s.Faults.SetRule(func(c drivertest.Call) error {
			if c.Op == drivertest.OpRead && !c.After {
				<-gate
			}
			return nil
		})
		n := 0
		asked = func() {
			if n++; n == 2 { // by the first write
				w.Close()
				close(gate)
				synctest.Wait() // the worker's reply has failed
				close(failed)
			}
		}
		p := make([]byte, 4096)
		w.send(reqMagic, uint16(0), uint16(0), cookie(0), int64(0), 128<<10,
			reqMagic, uint16(0), uint16(1), cookie(1), int64(0), len(p), p,
			reqMagic, uint16(0), uint16(1), cookie(1), int64(4096), len(p), p)
		<-failed
		synctest.Wait()
		if n := s.Uses.Load(); n != 0 {
			t.Errorf("%d exports are still open", n)
		}
	})
}

func TestLimitOfRequests(t *testing.T) {
	const total, requests, workers = 40, 6, 3
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s, Limits: nbd.Limits{Requests: requests, Workers: workers}})
	w := enter(t, path, "vol", false)
	var now, most atomic.Int64
	s.Faults.SetRule(func(c drivertest.Call) error {
		if c.After {
			now.Add(-1)
			return nil
		}
		n := now.Add(1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		runtime.Gosched()
		return nil
	})
	var batch []byte
	for i := range uint64(total) {
		batch = append(batch, be(reqMagic, uint16(0), uint16(3), i, int64(0), 0)...)
	}
	w.send(batch)
	seen := map[string]bool{}
	for range total {
		seen[string(w.read(16)[8:])] = true
	}
	if len(seen) != total || most.Load() > workers {
		t.Errorf("%d requests were answered, %d at once", len(seen), most.Load())
	}
}

// TestHostileLengths: lengths that clients only claim take no memory.
func TestHostileLengths(t *testing.T) {
	path, stop := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		w := dial(t, path)
		w.greet(3)
		w.send(optMagic, 7, -1)
		w.gone()
		w = dial(t, path)
		w.greet(3)
		w.option(7, -1, uint16(0xffff))
		w.answer(7, errInvalid)
		w.Close()
		w = enter(t, path, "vol", true)
		w.request(0, 0, 0, 1<<32-1)
		w.chunk(0, 1<<15+1)
		w.request(6, noHole, 0, testSize)
		w.plain(6, 0)
		w.request(1, 0, 0, 1<<32-1, make([]byte, 1<<20)...)
		w.Close()
	}
	stop()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 100<<20 {
		t.Errorf("%d MiB were allocated", got>>20)
	}
}
