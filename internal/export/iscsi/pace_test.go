package iscsi_test

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// throttled runs a test in a bubble of its own time, with a session at a server
// whose target has every command wait a minute. stop ends the server.
func throttled(t *testing.T, limits iscsi.Limits, test func(t *testing.T, s *shelf, w *wire, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf(t, testSize)
		s.throttle = func(bool, int64) time.Duration { s.counted.Add(1); return time.Minute }
		s.giveBack = func(bool, int64) { s.counted.Add(-1) }
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- iscsi.New(iscsi.Config{Targets: s, Limits: limits}).Serve(ctx, exporttest.Only(server))
		}()
		w := &wire{TB: t, Conn: client, cmdSN: 7, tag: 100}
		if status := w.login(1, names(iqn)...); status != 0 {
			t.Fatalf("login: %#04x", status)
		}
		w.fails(0x6, 0x2900, []byte{0})
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

// large is a read of as much as a command may move.
func large() []byte {
	cdb := make([]byte, 16)
	cdb[0] = 0x88
	binary.BigEndian.PutUint32(cdb[10:], 32<<20/512)
	return cdb
}

// over checks that the target is released at once, and that nothing is counted for
// what was not carried out.
func over(t *testing.T, s *shelf, begin time.Time) {
	t.Helper()
	synctest.Wait()
	n, took, counted := s.Uses.Load(), time.Since(begin), s.counted.Load()
	if n != 0 || took != 0 || counted != 0 {
		t.Errorf("%d targets are open after %v, %d commands are counted", n, took, counted)
	}
	if reads, writes := s.Faults.Calls(drivertest.OpRead), s.Faults.Calls(drivertest.OpWrite); reads+writes != 0 {
		t.Errorf("%d reads and %d writes were carried out", reads, writes)
	}
}

// TestThrottledEnds: what waits for its time, and a reader that waits for what
// those hold, do not hold up the end of a connection.
func TestThrottledEnds(t *testing.T) {
	// The second read does not fit beside the first.
	narrow := iscsi.Limits{InFlightBytes: 32 << 20}
	fill := func(w *wire) {
		w.command(cdb10(0x2a, 0, 1), 512, strings.Repeat("x", 512), writes)
		w.command(large(), 32<<20, "", reads)
		w.command(large(), 32<<20, "", reads)
		synctest.Wait()
	}
	t.Run("revoked", func(t *testing.T) {
		throttled(t, narrow, func(t *testing.T, s *shelf, w *wire, _ func()) {
			begin := time.Now()
			fill(w)
			close(s.Revoked)
			over(t, s, begin)
		})
	})
	t.Run("stop", func(t *testing.T) {
		throttled(t, narrow, func(t *testing.T, s *shelf, w *wire, stop func()) {
			begin := time.Now()
			fill(w)
			stop()
			if h, _ := w.receive(); h[0] != 0x32 {
				t.Errorf("%x tells the end", h)
			}
			w.gone()
			over(t, s, begin)
		})
	})
	t.Run("hung up", func(t *testing.T) {
		throttled(t, iscsi.Limits{}, func(t *testing.T, s *shelf, w *wire, _ func()) {
			begin := time.Now()
			fill(w)
			w.Close()
			over(t, s, begin)
		})
	})
	t.Run("logout", func(t *testing.T) {
		throttled(t, iscsi.Limits{}, func(t *testing.T, s *shelf, w *wire, _ func()) {
			begin := time.Now()
			fill(w)
			if code := w.logout(0, 0); code != 0 {
				t.Errorf("the logout: %d", code)
			}
			over(t, s, begin)
		})
	})
}

// TestThrottledIsAborted: a command that waits for its time is aborted at once and
// never carried out; those behind it go on.
func TestThrottledIsAborted(t *testing.T) {
	throttled(t, iscsi.Limits{Idle: time.Hour}, func(t *testing.T, s *shelf, w *wire, _ func()) {
		begin := time.Now()
		w.command(cdb10(0x2a, 0, 1), 512, strings.Repeat("x", 512), writes)
		aborted := w.tag
		w.command(cdb10(0x2a, 8, 1), 512, strings.Repeat("y", 512), writes)
		h := [48]byte{0: 0x42, 1: 0x81, 9: 1}
		binary.BigEndian.PutUint32(h[16:], 5000)
		binary.BigEndian.PutUint32(h[20:], aborted)
		w.send(h, "")
		if h, _ := w.receive(); h[0] != 0x22 || h[2] != 0 || time.Since(begin) != 0 {
			t.Errorf("%x answers an abort after %v", h, time.Since(begin))
		}
		if status, _, _ := w.result(); status != 0 || time.Since(begin) != time.Minute {
			t.Errorf("the one behind it: status %#x after %v", status, time.Since(begin))
		}
		if n := s.counted.Load(); n != 1 {
			t.Errorf("%d commands are counted", n)
		}
		s.Holds(t, 0, make([]byte, 512))
		s.Holds(t, 4096, []byte(strings.Repeat("y", 512)))
	})
}

// TestWhoDoesNotReadIsNotHeard: an initiator that reads nothing is not listened to
// for long, whatever it asks for, and is cut off.
func TestWhoDoesNotReadIsNotHeard(t *testing.T) {
	throttled(t, iscsi.Limits{Idle: time.Hour}, func(t *testing.T, s *shelf, w *wire, _ func()) {
		w.command(large(), 32<<20, "", reads)
		time.Sleep(time.Minute)
		synctest.Wait() // a worker sends: the reader finds somebody sending
		begin := time.Now()
		ping := packet([48]byte{0: 0x40, 1: 0x80, 19: 3, 20: 0xff, 21: 0xff, 22: 0xff, 23: 0xff}, strings.Repeat("x", 4096))
		heard := 0
		for ; heard < 10_000; heard++ {
			if _, err := w.Write(ping); err != nil {
				break
			}
		}
		if heard > 400 {
			t.Errorf("%d pings of 4 KiB were taken", heard)
		}
		synctest.Wait()
		if n, took := s.Uses.Load(), time.Since(begin); n != 0 || took > 2*time.Minute {
			t.Errorf("%d targets are open after %v", n, took)
		}
	})
}
