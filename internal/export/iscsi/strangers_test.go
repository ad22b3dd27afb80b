package iscsi_test

import (
	"log/slog"
	"testing"
	"time"

	"kvol/internal/export/iscsi"
)

// discover begins a discovery session, or is refused.
func discover(t testing.TB, address string) (w *wire, ok bool) {
	t.Helper()
	w = dial(t, address)
	h := loginRequest(1, 3, 1, w.cmdSN)
	login := packet(h, text("InitiatorName=iqn.2025-01.test:nobody", "SessionType=Discovery"))
	_, _ = w.Write(login) // fails where refused
	n, _ := w.Read(make([]byte, 48))
	return w, n > 0
}

// TestStrangersLeaveRoom: connections that show no secret have a part of what
// there is, and a smaller one where they come from one host. Hosts that are logged
// in have the rest, and strangers that leave make room.
func TestStrangersLeaveRoom(t *testing.T) {
	for _, limits := range []iscsi.Limits{
		{Connections: 6, ClientConnections: 100}, // half of the connections
		{Connections: 100, ClientConnections: 12},
		{Connections: 48}, // a quarter of them for one host, and of these a quarter
	} {
		address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize), Log: slog.New(slog.DiscardHandler),
			Limits: limits})
		host := enter(t, address, iqn, 1)
		enter(t, address, iqn, 2)
		var strangers []*wire
		for len(strangers) < 3 {
			if w, ok := discover(t, address); ok { // once the server knows that the hosts are in
				strangers = append(strangers, w)
			}
		}
		for range 5 {
			if _, ok := discover(t, address); ok {
				t.Fatalf("%+v: a fourth stranger is let in", limits)
			}
		}
		host.read(cdb10(0x28, 0, 1), 512)
		strangers[0].Close()
		w, ok := discover(t, address)
		for !ok { // until the server knows that one left
			w, ok = discover(t, address)
		}
		w.Close()
	}
}

// TestDiscoveryEnds: a discovery session ends after its time, whatever is said in
// it.
func TestDiscoveryEnds(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize),
		Limits: iscsi.Limits{Discovery: 200 * time.Millisecond}})
	host := enter(t, address, iqn, 1)
	w, ok := discover(t, address)
	if !ok {
		t.Fatal("refused")
	}
	ping := [48]byte{0: 0x40, 1: 0x80, 19: 3, 20: 0xff, 21: 0xff, 22: 0xff, 23: 0xff}
	for { // until it hangs up
		if _, err := w.Write(ping[:]); err != nil {
			break
		}
		if n, err := w.Read(make([]byte, 1024)); n == 0 || err != nil {
			break
		}
	}
	host.read(cdb10(0x28, 0, 1), 512)
}
