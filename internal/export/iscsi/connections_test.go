package iscsi_test

import (
	"encoding/binary"
	"sync"
	"testing"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// port is an initiator port with a session of several connections; they share
// the numbers of commands.
type port struct {
	testing.TB
	address string
	tsih    uint16
	first   *wire
}

// newPort begins a session that may have n connections.
func newPort(t testing.TB, address string, n string) *port {
	t.Helper()
	w := dial(t, address)
	w.send(loginRequest(1, 3, 1, w.cmdSN), text(append(names(iqn), "MaxConnections="+n)...))
	h, _ := w.receive()
	if h[36] != 0 {
		t.Fatalf("login: %x", h)
	}
	w.fails(0x6, 0x2900, []byte{0})
	return &port{t, address, binary.BigEndian.Uint16(h[14:]), w}
}

// try asks for one more connection and returns the login's status.
func (p *port) try(isid byte, tsih, cid uint16, sn uint32, keys ...string) (*wire, int) {
	p.Helper()
	w := dial(p, p.address)
	h := loginRequest(1, 3, isid, sn)
	binary.BigEndian.PutUint16(h[14:], tsih)
	binary.BigEndian.PutUint16(h[20:], cid)
	w.send(h, text(keys...))
	answer, _ := w.receive()
	w.tag = 10_000 * uint32(cid+1)
	return w, int(answer[36])<<8 | int(answer[37])
}

// add makes a connection; the next command of the session has number sn.
func (p *port) add(cid uint16, sn uint32) *wire {
	p.Helper()
	w, status := p.try(1, p.tsih, cid, sn, append(names(iqn), "HeaderDigest=None")...)
	if status != 0 {
		p.Fatalf("connection %d: %#04x", cid, status)
	}
	return w
}

// logout leaves with a connection, or has another one closed, and returns the
// response.
func (w *wire) logout(reason byte, cid uint16) byte {
	w.Helper()
	h := [48]byte{0: 0x46, 1: 0x80 | reason, 19: 77}
	binary.BigEndian.PutUint16(h[20:], cid)
	binary.BigEndian.PutUint32(h[24:], w.cmdSN)
	w.cmdSN++
	w.send(h, "")
	answer, _ := w.receive()
	if answer[0] != 0x26 {
		w.Fatalf("%x answers a logout", answer)
	}
	return answer[2]
}

// at has the next command of a connection have a number.
func (w *wire) at(sn uint32) *wire { w.cmdSN = sn; return w }

// TestSeveralConnections: commands of a session begin in the order of their
// numbers, by whatever connection they come; what is the session's is shared.
func TestSeveralConnections(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	p := newPort(t, address, "3")
	a, sn := p.first, p.first.cmdSN
	b := p.add(1, sn)
	b.at(sn+1).command(cdb10(0x28, 0, 1), 512, "", reads) // waits for the command before it
	content := string(exporttest.Fill(9, 512))
	a.at(sn).write(cdb10(0x2a, 8, 1), content)
	if status, data, sense := b.result(); status != 0 || len(data) != 512 { // nor is there a unit attention
		t.Fatalf("status %#x, %d bytes, sense %x", status, len(data), sense)
	}
	if got := b.at(sn+2).read(cdb10(0x28, 8, 1), 512); string(got) != content {
		t.Error("the second connection does not read what the first wrote")
	}
	a.at(sn+3).command([]byte{0x16, 0, 0, 0, 0, 0}, 0, "", 0x80) // RESERVE
	if status, _, _ := a.result(); status != 0 {
		t.Fatalf("reserving: %#x", status)
	}
	b.at(sn+4).write(cdb10(0x2a, 8, 1), content) // of the same nexus
	other := dial(t, address)
	if status := other.login(2, names(iqn)...); status != 0 {
		t.Fatal(status)
	}
	other.fails(0x6, 0x2900, []byte{0})
	other.command(cdb10(0x2a, 8, 1), 512, content, writes)
	if status, _, _ := other.result(); status != 0x18 {
		t.Errorf("a stranger writes: %#x", status)
	}
	// A command of the second waits for data when the first resets the unit.
	b.at(sn+5).command(cdb10(0x2a, 16, 1), 512, "", writes)
	if r2t, _ := b.receive(); r2t[0] != 0x31 {
		t.Fatalf("%x", r2t)
	}
	h := [48]byte{0: 0x42, 1: 0x80 | 5, 9: 1, 19: 99} // immediate, as logouts are: it takes no number
	binary.BigEndian.PutUint32(h[24:], sn+6)
	a.send(h, "")
	if answer, _ := a.receive(); answer[0] != 0x22 || answer[2] != 0 {
		t.Fatalf("the reset: %x", answer)
	}
	b.at(sn+6).read(cdb10(0x28, 0, 1), 512) // its answer comes, and none of what was aborted
	if code := a.at(sn+7).logout(1, 9); code != 1 {
		t.Errorf("leaving with a connection that is not there: %d", code)
	}
	if code := b.at(sn+7).logout(1, 1); code != 0 {
		t.Errorf("leaving with one of two connections: %d", code)
	}
	b.gone()
	a.at(sn+7).read(cdb10(0x28, 0, 1), 512)
	c := p.add(2, sn+8)
	if code := a.at(sn+8).logout(1, 2); code != 0 {
		t.Errorf("having another connection closed: %d", code)
	}
	c.gone()
	a.at(sn+8).read(cdb10(0x28, 0, 1), 512)
}

// TestConnectionsTogether writes by four connections at once, each taking the
// next number when it sends, and reads all of it back.
func TestConnectionsTogether(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	p := newPort(t, address, "4")
	var mu sync.Mutex
	sn := p.first.cmdSN
	all := []*wire{p.first, p.add(1, sn), p.add(2, sn), p.add(3, sn)}
	const each = 50
	var group sync.WaitGroup
	for i, w := range all {
		group.Go(func() {
			for n := range each {
				content := exporttest.Fill(byte(i*each+n), 512)
				mu.Lock()
				number := sn
				sn++
				mu.Unlock()
				w.at(number).command(cdb10(0x2a, uint32(i*each+n), 1), 512, string(content), writes)
				if status, _, sense := w.result(); status != 0 {
					t.Errorf("connection %d, write %d: %#x, %x", i, n, status, sense)
					return
				}
			}
		})
	}
	group.Wait()
	for i := range len(all) * each {
		s.Holds(t, int64(i)*512, exporttest.Fill(byte(i), 512))
	}
}

// TestConnectionsRefused: a connection is added to a session of the same port,
// as long as there is room; one that fails ends all of them, and one that comes
// again replaces its own.
func TestConnectionsRefused(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	p := newPort(t, address, "2")
	sn := p.first.cmdSN
	for _, test := range []struct {
		isid byte
		tsih uint16
		keys []string
		want int
	}{
		{1, p.tsih + 1, names(iqn), 0x020a},
		{2, p.tsih, names(iqn), 0x020a},
		{1, p.tsih, names(iqn + "-ro"), 0x020a},
		{1, p.tsih, []string{"InitiatorName=iqn.2025-01.test:other", "TargetName=" + iqn}, 0x020a},
		{1, p.tsih, []string{"InitiatorName=iqn.2025-01.test:host", "SessionType=Discovery"}, 0x020a},
	} {
		if _, status := p.try(test.isid, test.tsih, 1, sn, test.keys...); status != test.want {
			t.Errorf("%+v: %#04x", test, status)
		}
	}
	b := p.add(1, sn)
	if _, status := p.try(1, p.tsih, 2, sn, names(iqn)...); status != 0x0206 {
		t.Errorf("a third of two connections: %#04x", status)
	}
	again := p.add(1, sn)
	b.gone()
	again.at(sn).read(cdb10(0x28, 0, 1), 512)
	p.first.at(sn+1).read(cdb10(0x28, 0, 1), 512)
	again.Close()
	p.first.gone()
	if _, status := p.try(1, p.tsih, 3, sn, names(iqn)...); status != 0x020a {
		t.Errorf("a session that is over: %#04x", status)
	}
	single := enter(t, address, iqn, 7)
	single.at(single.cmdSN+1).command(cdb10(0x28, 0, 1), 512, "", reads)
	single.gone() // a gap, which nobody else can fill
}

// TestWaitingConnectionEnds: a connection that waits for a command that never
// comes does not outlive the session.
func TestWaitingConnectionEnds(t *testing.T) {
	address, stop := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	p := newPort(t, address, "2")
	sn := p.first.cmdSN
	b := p.add(1, sn)
	b.at(sn+1).command(cdb10(0x28, 0, 1), 512, "", reads)
	p.first.Close()
	b.gone()
	p = newPort(t, address, "2")
	sn = p.first.cmdSN
	b = p.add(1, sn)
	b.at(sn+1).command(cdb10(0x28, 0, 1), 512, "", reads)
	stop()
}
