package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// wire speaks the protocol PDU by PDU.
type wire struct {
	testing.TB
	net.Conn
	cmdSN, tag uint32
}

func dial(t testing.TB, address string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{TB: t, Conn: c, cmdSN: 7, tag: 100}
}

// packet makes a PDU of a header and data.
func packet(h [48]byte, data string) []byte {
	h[5], h[6], h[7] = byte(len(data)>>16), byte(len(data)>>8), byte(len(data))
	b := append(h[:], data...)
	return append(b, make([]byte, (4-len(data)%4)%4)...)
}

func (w *wire) send(h [48]byte, data string) {
	w.Helper()
	if _, err := w.Write(packet(h, data)); err != nil {
		w.Fatal(err)
	}
}

// receive reads a PDU.
func (w *wire) receive() (h [48]byte, data []byte) {
	w.Helper()
	if _, err := io.ReadFull(w.Conn, h[:]); err != nil {
		w.Fatalf("receiving: %v", err)
	}
	n := int(h[5])<<16 | int(h[6])<<8 | int(h[7])
	data = make([]byte, (n+3)&^3)
	if _, err := io.ReadFull(w.Conn, data); err != nil {
		w.Fatalf("receiving: %v", err)
	}
	return h, data[:n]
}

// gone expects the server to hang up without another word.
func (w *wire) gone() {
	w.Helper()
	if n, err := w.Read(make([]byte, 1)); n != 0 || err == nil {
		w.Fatal("the server still talks")
	}
}

func text(keys ...string) string { return strings.Join(keys, "\x00") + "\x00" }

// loginRequest is a login request from and to a stage; isid tells initiator
// ports apart.
func loginRequest(from, to, isid byte, sn uint32) (h [48]byte) {
	h[0], h[1], h[13] = 0x43, from<<2, isid
	if to > from {
		h[1] |= 0x80 | to
	}
	binary.BigEndian.PutUint32(h[24:], sn)
	return h
}

// login asks for a login in one step and returns the status.
func (w *wire) login(isid byte, keys ...string) int {
	w.Helper()
	w.send(loginRequest(1, 3, isid, w.cmdSN), text(keys...))
	h, _ := w.receive()
	return int(h[36])<<8 | int(h[37])
}

func names(target string) []string {
	return []string{"InitiatorName=iqn.2025-01.test:host", "SessionType=Normal", "TargetName=" + target}
}

// enter begins a session, and takes the first unit attention.
func enter(t testing.TB, address, target string, isid byte, keys ...string) *wire {
	t.Helper()
	w := dial(t, address)
	if status := w.login(isid, append(names(target), keys...)...); status != 0 {
		t.Fatalf("login: %#04x", status)
	}
	w.fails(0x6, 0x2900, []byte{0})
	return w
}

// command sends a SCSI command that moves n bytes; data comes with it.
func (w *wire) command(cdb []byte, n int, data string, flags byte) {
	w.Helper()
	var h [48]byte
	w.tag++
	h[0], h[1], h[9] = 0x01, flags, 1
	binary.BigEndian.PutUint32(h[16:], w.tag)
	binary.BigEndian.PutUint32(h[20:], uint32(n))
	binary.BigEndian.PutUint32(h[24:], w.cmdSN)
	copy(h[32:], cdb)
	w.cmdSN++
	w.send(h, data)
}

const (
	reads  = 0x80 | 0x40
	writes = 0x80 | 0x20
)

// result reads a command's answer: the status, what came, and the sense.
func (w *wire) result() (status byte, data, sense []byte) {
	w.Helper()
	for {
		h, part := w.receive()
		switch h[0] {
		case 0x25:
			data = append(data, part...)
			if h[1]&1 != 0 {
				return h[3], data, nil
			}
		case 0x21:
			if len(part) > 2 {
				sense = part[2:]
			}
			return h[3], data, sense
		default:
			w.Fatalf("%x answers a command", h)
		}
	}
}

func (w *wire) read(cdb []byte, n int) []byte {
	w.Helper()
	w.command(cdb, n, "", reads)
	status, data, sense := w.result()
	if status != 0 {
		w.Fatalf("%x: status %#x, sense %x", cdb, status, sense)
	}
	return data
}

func (w *wire) write(cdb []byte, data string) {
	w.Helper()
	w.command(cdb, len(data), data, writes)
	if status, _, sense := w.result(); status != 0 {
		w.Fatalf("%x: status %#x, sense %x", cdb, status, sense)
	}
}

// fails expects a command without data to fail with a sense.
func (w *wire) fails(key byte, code uint16, cdb []byte) {
	w.Helper()
	w.command(cdb, 0, "", 0x80)
	status, _, sense := w.result()
	if status != 2 || sense[2] != key || binary.BigEndian.Uint16(sense[12:]) != code {
		w.Fatalf("%x: status %#x, sense %x, want %#x/%#04x", cdb, status, sense, key, code)
	}
}

func cdb10(code byte, lba uint32, blocks uint16) []byte {
	b := make([]byte, 10)
	b[0] = code
	binary.BigEndian.PutUint32(b[2:], lba)
	binary.BigEndian.PutUint16(b[7:], blocks)
	return b
}

func TestLoginIsRefused(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	for _, test := range []struct {
		status int
		keys   []string
	}{
		{0, names(iqn)},
		{0x0201, names(iqn + "-chap")},
		{0x0202, names(iqn + "-forbidden")},
		{0x0203, names(iqn + "-nope")},
		{0x0207, []string{"TargetName=" + iqn}},
		{0x0207, []string{"InitiatorName=iqn.2025-01.test:host"}},
		{0x0209, append(names(iqn), "SessionType=Other")},
		{0x0200, append(names(iqn), "MaxBurstLength=5")},
		{0x0200, append(names(iqn), "InitialR2T=Perhaps")},
		{0x0200, append(names(iqn), "nonsense")},
		{0x0300, names(iqn + "-broken")},
		{0x0301, names(iqn + "-busy")},
	} {
		w := dial(t, address)
		if status := w.login(1, test.keys...); status != test.status {
			t.Errorf("%q: %#04x, want %#04x", test.keys, status, test.status)
		}
		w.Close()
	}
}

func TestLoginNegotiates(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w := dial(t, address)
	w.send(loginRequest(1, 3, 1, 7), text(append(names(iqn), "HeaderDigest=CRC32C,None", "DataDigest=None,CRC32C",
		"MaxBurstLength=0x10000", "FirstBurstLength=16776192", "InitialR2T=No", "ImmediateData=No", "MaxConnections=8",
		"ErrorRecoveryLevel=2", "DefaultTime2Wait=0", "DefaultTime2Retain=60", "MaxRecvDataSegmentLength=4096",
		"X-com.example=1")...))
	h, data := w.receive()
	got := strings.Join(strings.Split(strings.TrimRight(string(data), "\x00"), "\x00"), " ")
	want := "TargetPortalGroupTag=1 HeaderDigest=CRC32C DataDigest=None MaxBurstLength=65536 FirstBurstLength=131072 " +
		"InitialR2T=No ImmediateData=No MaxConnections=8 ErrorRecoveryLevel=0 DefaultTime2Wait=2 DefaultTime2Retain=0 " +
		"X-com.example=NotUnderstood MaxRecvDataSegmentLength=131072"
	if got != want || h[36] != 0 || h[1] != 0x87 {
		t.Errorf("%x\ngot  %s\nwant %s", h, got, want)
	}
}

func TestDiscovery(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize), Portal: "192.0.2.1:3260"})
	w := dial(t, address)
	if status := w.login(1, "InitiatorName=iqn.2025-01.test:host", "SessionType=Discovery"); status != 0 {
		t.Fatalf("login: %#04x", status)
	}
	h := [48]byte{0: 0x44, 1: 0x80, 19: 9, 20: 0xff, 21: 0xff, 22: 0xff, 23: 0xff, 27: 7}
	w.send(h, text("SendTargets=All"))
	_, data := w.receive()
	if want := text("TargetName="+iqn, "TargetAddress=192.0.2.1:3260,1", "TargetName="+iqn+"-ro",
		"TargetAddress=192.0.2.1:3260,1"); string(data) != want {
		t.Errorf("%q", data)
	}
	w.command([]byte{0}, 0, "", 0x80) // no disk in a discovery session
	if h, _ := w.receive(); h[0] != 0x3f {
		t.Errorf("a command in a discovery session: %x", h)
	}
}

func TestDataIsAskedFor(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1, "MaxBurstLength=1024")
	content := string(exporttest.Fill(3, 2048))
	w.command(cdb10(0x2a, 16, 4), 2048, content[:512], writes)
	at := 512
	for at < len(content) {
		r2t, _ := w.receive()
		off, n := int(binary.BigEndian.Uint32(r2t[40:])), int(binary.BigEndian.Uint32(r2t[44:]))
		if r2t[0] != 0x31 || off != at || n != min(1024, 2048-at) {
			t.Fatalf("%x at %d", r2t, at)
		}
		h := [48]byte{0: 0x05, 1: 0x80}
		copy(h[16:24], r2t[16:24])
		copy(h[40:44], r2t[40:44])
		w.send(h, content[off:off+n])
		at += n
	}
	if status, _, sense := w.result(); status != 0 {
		t.Fatalf("status %#x, sense %x", status, sense)
	}
	s.Holds(t, 16*512, []byte(content))
}

// TestEndOfTask aborts a write that waits for its data; other commands go on.
func TestEndOfTask(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	w.command(cdb10(0x2a, 0, 1), 512, "", writes)
	r2t, _ := w.receive()
	h := [48]byte{0: 0x42, 1: 0x81, 9: 1}
	binary.BigEndian.PutUint32(h[16:], 5000)
	binary.BigEndian.PutUint32(h[20:], w.tag)
	for _, want := range []byte{0, 1} { // done; no such task any more
		w.send(h, "")
		if h, _ := w.receive(); h[0] != 0x22 || h[2] != want {
			t.Fatalf("%x answers an abort", h)
		}
	}
	late := [48]byte{0: 0x05, 1: 0x80}
	copy(late[16:24], r2t[16:24])
	w.send(late, strings.Repeat("x", 512))
	if got := w.read(cdb10(0x28, 0, 1), 512); !bytes.Equal(got, make([]byte, 512)) {
		t.Error("an aborted write wrote")
	}
}

func TestPingAndLogout(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w := enter(t, address, iqn, 1)
	w.send([48]byte{0: 0x40, 1: 0x80, 19: 3, 20: 0xff, 21: 0xff, 22: 0xff, 23: 0xff}, "echo")
	if h, data := w.receive(); h[0] != 0x20 || string(data) != "echo" {
		t.Errorf("%x %q answers a ping", h, data)
	}
	w.send([48]byte{0: 0x46, 1: 0x80, 19: 4}, "")
	if h, _ := w.receive(); h[0] != 0x26 || h[2] != 0 {
		t.Errorf("%x answers a logout", h)
	}
	w.gone()
}

func TestSameInitiatorPortEndsItsSession(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	first := enter(t, address, iqn, 1)
	other := enter(t, address, iqn, 2)
	enter(t, address, iqn, 1).read(cdb10(0x28, 0, 1), 512)
	first.gone()
	other.read(cdb10(0x28, 0, 1), 512)
}

func TestRevoked(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	close(s.Revoked)
	w.gone()
}

func TestServerStops(t *testing.T) {
	s := newShelf(t, testSize)
	address, stop := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	idle := dial(t, address)
	stop()
	if h, _ := w.receive(); h[0] != 0x32 {
		t.Errorf("%x tells the end", h)
	}
	w.gone()
	idle.gone()
}

func TestSilentInitiator(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize),
		Limits: iscsi.Limits{Idle: 300 * time.Millisecond}})
	w := enter(t, address, iqn, 1)
	if h, _ := w.receive(); h[0] != 0x20 {
		t.Errorf("%x asks for a sign of life", h)
	}
	w.gone()
}

func TestGrowthIsTold(t *testing.T) {
	s := newShelf(t, testSize)
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	if err := s.Store.ExtendVolume(t.Context(), "v", 2*testSize); err != nil {
		t.Fatal(err)
	}
	w.fails(0x6, 0x2a09, []byte{0})
	last := binary.BigEndian.Uint32(w.read([]byte{0x25, 9: 0}, 8))
	if last != 2*testSize/512-1 {
		t.Errorf("last block %d", last)
	}
}

func TestReadOnly(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w := enter(t, address, iqn+"-ro", 1)
	for _, code := range []byte{0x2a, 0x2e, 0x41} {
		w.fails(0x7, 0x2700, cdb10(code, 0, 1))
	}
	w.fails(0x7, 0x2700, cdb10(0x42, 0, 24))
	if mode := w.read([]byte{0x1a, 0, 0x3f, 0, 0xff, 0}, 255); mode[2]&0x80 == 0 {
		t.Errorf("mode sense: %x", mode)
	}
}

func TestCapacityIsOneForAllCommands(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w := enter(t, address, iqn, 1)
	for _, code := range []byte{0x28, 0x2a, 0x2f, 0x35, 0x41} {
		w.fails(0x5, 0x2100, cdb10(code, testSize/512-1, 2))
	}
	w.fails(0x5, 0x2000, []byte{0xff})
}

// TestTransfersAreBounded asks for more than block limits allow, on a device
// that has as much.
func TestTransfersAreBounded(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	w := enter(t, address, iqn, 1)
	for _, code := range []byte{0x88, 0x8a, 0x8b, 0x8e} {
		cdb := make([]byte, 16)
		cdb[0] = code
		binary.BigEndian.PutUint32(cdb[10:], 32<<20/512+1)
		w.command(cdb, 64<<20, "", writes)
		if status, _, sense := w.result(); status != 2 || binary.BigEndian.Uint16(sense[12:]) != 0x2400 {
			t.Errorf("%#x: status %#x, sense %x", code, status, sense)
		}
	}
}

// TestThrottle has what moves bytes counted, and made to wait; what ends with
// the connection does not.
func TestThrottle(t *testing.T) {
	s := newShelf(t, testSize)
	var mu sync.Mutex
	var counted []string
	wait := time.Millisecond
	s.throttle = func(write bool, bytes int64) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		counted = append(counted, fmt.Sprint(write, bytes))
		return wait
	}
	address, _ := serve(t, iscsi.Config{Targets: s})
	w := enter(t, address, iqn, 1)
	w.read(cdb10(0x28, 0, 2), 1024)
	w.write(cdb10(0x2a, 0, 1), strings.Repeat("x", 512))
	w.write(cdb10(0x41, 0, 8), strings.Repeat("x", 512))
	w.write(cdb10(0x41, 0, 8), strings.Repeat("\x00", 512))
	w.write(cdb10(0x35, 0, 0), "")
	mu.Lock()
	if got := strings.Join(counted, ","); got != "false 1024,true 512,true 4096,true 0" {
		t.Errorf("counted %s", got)
	}
	wait = time.Hour
	mu.Unlock()
	w.command(cdb10(0x28, 0, 2), 1024, "", reads)
	w.Close()
}
