package nbd_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
	"kvol/internal/export/qos"
)

// pipe runs a test in a bubble of its own time, with a connection in
// transmission to a server. stop ends the server.
func pipe(t *testing.T, prepare func(*shelf), test func(t *testing.T, s *shelf, w *wire, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, testSize)
		prepare(s)
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- nbd.New(nbd.Config{Exports: s}).Serve(ctx, exporttest.Only(server)) }()
		w := &wire{t, client}
		w.greet(3)
		w.option(7, named("vol"), uint16(0))
		w.answer(7, 3)
		w.answer(7, 1)
		defer func() {
			cancel()
			client.Close()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}()
		test(t, s, w, cancel)
	})
}

// writes sends so many writes of a byte. A pipe has no buffer, so that the
// replies must be read meanwhile.
func (w *wire) writes(n int) {
	var batch []byte
	for range n {
		batch = append(batch, be(reqMagic, uint16(0), uint16(1), cookie(1), int64(0), 1, []byte{9})...)
	}
	go func() { _, _ = w.Write(batch) }() // what does not arrive is not answered
}

func limited(specs map[string]int64) func(*shelf) {
	l := qos.NewLimiter(nil)
	l.Set(qos.LimitsOf(specs))
	return func(s *shelf) { s.throttle = l.Take }
}

func TestThrottled(t *testing.T) {
	pipe(t, limited(map[string]int64{"write_iops_sec": 10}), func(t *testing.T, _ *shelf, w *wire, _ func()) {
		begin := time.Now()
		for range 21 {
			w.request(1, 0, 0, 4, 1, 2, 3, 4)
			w.plain(1, 0)
		}
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("21 writes at 10 a second, of which one is free, took %v", took)
		}
	})
}

// TestThrottledHoldUpNoOthers: while writes wait, the same connection's reads
// and flushes go on.
func TestThrottledHoldUpNoOthers(t *testing.T) {
	pipe(t, limited(map[string]int64{"write_iops_sec": 1}), func(t *testing.T, _ *shelf, w *wire, _ func()) {
		begin := time.Now()
		w.writes(40) // more than there are workers
		w.plain(1, 0)
		for range 10 {
			w.request(0, 0, 0, 1)
			w.plain(0, 0)
			w.expect([]byte{9})
			w.request(3, 0, 0, 0)
			w.plain(3, 0)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("reads and flushes waited %v", took)
		}
		for range 39 {
			w.plain(1, 0)
		}
		if took := time.Since(begin); took != 39*time.Second {
			t.Errorf("the writes took %v", took)
		}
	})
}

// TestThrottledEnds: what waits for its time does not hold up the end of a
// connection.
func TestThrottledEnds(t *testing.T) {
	fill := func(w *wire) {
		w.writes(100)
		w.plain(1, 0)
	}
	slow := func(s *shelf) { limited(map[string]int64{"write_iops_sec": 1})(s) }
	t.Run("farewell", func(t *testing.T) {
		pipe(t, slow, func(t *testing.T, _ *shelf, w *wire, _ func()) {
			begin := time.Now()
			fill(w)
			w.request(2, 0, 0, 0)
			for range 99 {
				w.plain(1, 0)
			}
			w.gone()
			if took := time.Since(begin); took != 99*time.Second {
				t.Errorf("who takes leave has its requests carried out in %v", took)
			}
		})
	})
	t.Run("farewell, and gone", func(t *testing.T) {
		pipe(t, slow, func(t *testing.T, s *shelf, w *wire, _ func()) {
			begin := time.Now()
			fill(w)
			w.request(2, 0, 0, 0)
			w.Close()
			for s.Uses.Load() > 0 && time.Since(begin) < time.Hour {
				time.Sleep(time.Second)
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("the end took %v", took)
			}
		})
	})
	t.Run("hung up", func(t *testing.T) {
		pipe(t, slow, func(t *testing.T, s *shelf, w *wire, _ func()) {
			begin := time.Now()
			fill(w)
			synctest.Wait()
			w.Close()
			synctest.Wait()
			writes := s.Faults.Calls(drivertest.OpWrite)
			if n, took := s.Uses.Load(), time.Since(begin); n != 0 || took != 0 || writes != 1 {
				t.Errorf("%d exports are open after %v, %d writes were carried out", n, took, writes)
			}
		})
	})
	t.Run("revoked", func(t *testing.T) {
		pipe(t, slow, func(t *testing.T, s *shelf, w *wire, _ func()) {
			begin := time.Now()
			w.writes(200) // more than are admitted: the reader waits too
			w.plain(1, 0)
			synctest.Wait()
			close(s.Revoked)
			w.gone()
			synctest.Wait()
			if n, took := s.Uses.Load(), time.Since(begin); n != 0 || took != 0 {
				t.Errorf("%d exports are open after %v", n, took)
			}
		})
	})
	t.Run("stop", func(t *testing.T) {
		pipe(t, slow, func(t *testing.T, _ *shelf, w *wire, stop func()) {
			begin := time.Now()
			fill(w)
			stop()
			for range 99 {
				w.plain(1, 0)
			}
			w.gone()
			if took := time.Since(begin); took != 0 {
				t.Errorf("the end took %v", took)
			}
		})
	})
}

// TestThrottledLeavesNoDebt: a client with a full queue puts others behind one
// request of its own, and when it is gone, behind none.
func TestThrottledLeavesNoDebt(t *testing.T) {
	l := qos.NewLimiter(nil)
	l.Set(qos.LimitsOf(map[string]int64{"read_bytes_sec": 1 << 20}))
	prepare := func(s *shelf) { s.throttle, s.giveBack = l.Take, l.GiveBack }
	pipe(t, prepare, func(t *testing.T, s *shelf, w *wire, _ func()) {
		for range 60 {
			w.request(0, 0, 0, 1<<20)
		}
		synctest.Wait()
		if wait := l.Take(false, 1); wait > time.Second {
			t.Errorf("another client waits %v", wait)
		}
		w.Close()
		synctest.Wait()
		if wait := l.Take(false, 1); wait != 0 {
			t.Errorf("who comes after it waits %v", wait)
		}
		if n := s.Faults.Calls(drivertest.OpRead); n != 0 {
			t.Errorf("%d reads were carried out", n)
		}
	})
}

// TestWhoDoesNotReadIsCutOff: a client that takes no replies holds its export
// only so long.
func TestWhoDoesNotReadIsCutOff(t *testing.T) {
	pipe(t, func(*shelf) {}, func(t *testing.T, s *shelf, w *wire, _ func()) {
		begin := time.Now()
		w.request(0, 0, 0, 4<<20)
		for s.Uses.Load() > 0 && time.Since(begin) < time.Hour {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("it was cut off after %v", took)
		}
	})
}

// TestWhoDoesNotSendIsCutOff: neither does one that announces bytes and sends
// none, whatever path they take.
func TestWhoDoesNotSendIsCutOff(t *testing.T) {
	for name, send := range map[string]func(*wire){
		"small write":   func(w *wire) { w.request(1, 0, 0, 100, 1, 2, 3) },
		"large write":   func(w *wire) { w.request(1, 0, 0, 1<<20, 1, 2, 3) },
		"refused write": func(w *wire) { w.request(1, 0, testSize, 1<<20, 1, 2, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			pipe(t, func(*shelf) {}, func(t *testing.T, s *shelf, w *wire, _ func()) {
				begin := time.Now()
				go func() { // whatever it says, and that it hangs up
					for b := make([]byte, 1); ; {
						if _, err := w.Read(b); err != nil {
							return
						}
					}
				}()
				send(w)
				for s.Uses.Load() > 0 && time.Since(begin) < time.Hour {
					time.Sleep(time.Second)
				}
				if took := time.Since(begin); took < 30*time.Second || took > 40*time.Second {
					t.Errorf("it was cut off after %v", took)
				}
			})
		})
	}
}

// TestIdleStays: who waits is not cut off, nor one that was slow once.
func TestIdleStays(t *testing.T) {
	pipe(t, func(*shelf) {}, func(_ *testing.T, _ *shelf, w *wire, _ func()) {
		for range 3 {
			time.Sleep(1000 * time.Hour)
			w.send(reqMagic, uint16(0), uint16(1), cookie(1), int64(0), 4, []byte{1, 2})
			time.Sleep(20 * time.Second)
			w.send([]byte{3, 4})
			w.plain(1, 0)
			w.request(0, 0, 0, 4)
			w.plain(0, 0)
			w.expect([]byte{1, 2, 3, 4})
		}
	})
}
