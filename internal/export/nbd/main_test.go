package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"iter"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is the exports of a test: one volume of the reference driver, behind
// faults, under the name "vol", and read-only under "vol-ro".
type shelf struct {
	*exporttest.Volume
	throttle func(write bool, bytes int64) time.Duration
	giveBack func(write bool, bytes int64)
	changed  map[string][]driver.Extent // by earlier moment
}

const testSize = 8 << 20

func newShelf(t testing.TB, size int64) *shelf {
	t.Helper()
	return &shelf{Volume: exporttest.NewVolume(t, size)}
}

func (s *shelf) Open(_ context.Context, name string) (nbd.Export, error) {
	e := nbd.Export{Device: s.Device, Description: "a test", Revoked: s.Revoked, Throttle: s.throttle,
		GiveBack: s.giveBack}
	if s.changed != nil {
		e.Since, e.Changed = slices.Sorted(maps.Keys(s.changed)), s.changes
	}
	switch name {
	case "vol":
	case "vol-ro":
		e.ReadOnly = true
	case "blind":
		e.Device = blind{s.Device}
	case "busy":
		return nbd.Export{}, block.Errorf(block.Unavailable, "come back later")
	case "forbidden":
		return nbd.Export{}, block.Errorf(block.Forbidden, "not for you")
	case "broken":
		return nbd.Export{}, io.ErrUnexpectedEOF
	default:
		return nbd.Export{}, block.Errorf(block.NotFound, "no such export")
	}
	e.Release = s.Use()
	return e, nil
}

// changes is nbd.Export.Changed; a moment without extents can't be read.
func (s *shelf) changes(_ context.Context, since string) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		if s.changed[since] == nil {
			yield(driver.Extent{}, block.Errorf(block.NotFound, "no such moment"))
			return
		}
		for _, e := range s.changed[since] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// blind is a device that can't tell where its data is.
type blind struct{ driver.Device }

// serve runs a server on a unix socket until the test ends.
func serve(t testing.TB, c nbd.Config) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "nbd")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return path, serveOn(t, c, l)
}

func serveOn(t testing.TB, c nbd.Config, l net.Listener) (stop func()) {
	t.Helper()
	if c.Log == nil {
		c.Log = exporttest.Log(t)
	}
	return exporttest.Serve(t, nbd.New(c), l)
}

// wire speaks the protocol byte by byte.
type wire struct {
	testing.TB
	net.Conn
}

func dial(t testing.TB, path string) *wire {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t, c}
}

// be puts fields together: integers big-endian, strings and bytes as they are.
func be(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			b = append(b, f...)
		case []byte:
			b = append(b, f...)
		case int:
			b = binary.BigEndian.AppendUint32(b, uint32(f))
		default:
			b, _ = binary.Append(b, binary.BigEndian, f)
		}
	}
	return b
}

func (w *wire) send(fields ...any) {
	w.Helper()
	if _, err := w.Write(be(fields...)); err != nil {
		w.Fatal(err)
	}
}

func (w *wire) read(n int) []byte {
	w.Helper()
	p := make([]byte, n)
	if got, err := io.ReadFull(w.Conn, p); err != nil {
		w.Fatalf("read %d of %d bytes: %x: %v", got, n, p[:got], err)
	}
	return p
}

// expect reads exactly these fields.
func (w *wire) expect(fields ...any) {
	w.Helper()
	want := be(fields...)
	if got := w.read(len(want)); !bytes.Equal(got, want) {
		w.Fatalf("got  %x\nwant %x", got, want)
	}
}

// gone expects the server to hang up without another word.
func (w *wire) gone() {
	w.Helper()
	if n, err := w.Read(make([]byte, 1)); n != 0 || err == nil {
		w.Fatalf("the server still talks")
	}
}

const (
	optMagic   = "IHAVEOPT"
	repMagic   = uint64(0x3e889045565a9)
	reqMagic   = 0x25609513
	plainMagic = 0x67446698
	chunkMagic = 0x668e33ef
)

// greet does the first exchange; flags are the client's.
func (w *wire) greet(flags int) {
	w.Helper()
	w.expect("NBDMAGIC", "IHAVEOPT", uint16(3))
	w.send(flags)
}

func (w *wire) option(opt int, data ...any) {
	w.Helper()
	b := be(data...)
	w.send(optMagic, opt, len(b), b)
}

// answer reads one answer to an option and returns its data.
func (w *wire) answer(opt int, rep uint32) []byte {
	w.Helper()
	h := w.read(20)
	if binary.BigEndian.Uint64(h) != repMagic || binary.BigEndian.Uint32(h[8:]) != uint32(opt) {
		w.Fatalf("%x is no answer to option %d", h, opt)
	}
	data := w.read(int(binary.BigEndian.Uint32(h[16:])))
	if got := binary.BigEndian.Uint32(h[12:]); got != rep {
		w.Fatalf("option %d is answered with %#x %q, want %#x", opt, got, data, rep)
	}
	return data
}

func named(name string) []byte { return be(len(name), name) }

// enter goes into transmission on an export; structured also chooses
// base:allocation.
func enter(t testing.TB, path, export string, structured bool) *wire {
	t.Helper()
	w := dial(t, path)
	w.greet(3)
	if structured {
		w.option(8)
		w.answer(8, 1)
		w.option(10, named(export), 1, named("base:allocation"))
		w.answer(10, 4)
		w.answer(10, 1)
	}
	w.option(7, named(export), uint16(0))
	w.answer(7, 3)
	w.answer(7, 1)
	return w
}

// request sends a request with a cookie that is its number of command.
func (w *wire) request(cmd, flags uint16, off int64, length uint32, payload ...byte) {
	w.Helper()
	w.send(reqMagic, flags, cmd, cookie(cmd), off, length, payload)
}

func cookie(cmd uint16) uint64 { return 0xc00c1e00 + uint64(cmd) }

// plain expects a simple reply.
func (w *wire) plain(cmd uint16, errno int) {
	w.Helper()
	w.expect(plainMagic, errno, cookie(cmd))
}

// chunk reads the only chunk of a structured reply.
func (w *wire) chunk(cmd, kind uint16) []byte {
	w.Helper()
	w.expect(chunkMagic, uint16(1), kind, cookie(cmd))
	return w.read(int(binary.BigEndian.Uint32(w.read(4))))
}
