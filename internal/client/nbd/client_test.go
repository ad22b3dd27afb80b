package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"kvol/internal/client/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is the server's side of a connection, written out by the test.
type script struct {
	t    *testing.T
	conn net.Conn
}

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

func (s *script) send(fields ...any) {
	if _, err := s.conn.Write(be(fields...)); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		s.t.Errorf("script: %v", err)
	}
}

func (s *script) read(n int) []byte {
	p := make([]byte, n)
	if _, err := io.ReadFull(s.conn, p); err != nil {
		return nil // the client has gone; what follows is of no use
	}
	return p
}

// option reads an option and returns its number and data.
func (s *script) option() (opt uint32, data []byte) {
	h := s.read(16)
	if h == nil {
		return 0, nil
	}
	return binary.BigEndian.Uint32(h[8:]), s.read(int(binary.BigEndian.Uint32(h[12:])))
}

func (s *script) answer(opt, rep uint32, data ...any) {
	b := be(data...)
	s.send(uint64(0x3e889045565a9), opt, rep, len(b), b)
}

const (
	size   = 1 << 20
	export = "some export"
)

// handshake plays a server; plain ones know no structured replies.
func (s *script) handshake(structured bool) {
	s.send("NBDMAGIC", "IHAVEOPT", uint16(3))
	s.read(4)
	for {
		opt, data := s.option()
		switch {
		case opt == 8 && structured:
			s.answer(opt, 1)
		case opt == 10 && structured:
			s.answer(opt, 4, 7, "base:allocation")
			s.answer(opt, 1)
		case opt == 7:
			if !bytes.Contains(data, []byte(export)) {
				s.t.Errorf("GO without the name: %q", data)
			}
			s.answer(opt, 3, uint16(3), 1, 1, 1) // something not asked for
			s.answer(opt, 3, uint16(0), int64(size), uint16(1))
			s.answer(opt, 1)
			return
		case opt == 0:
			return
		default:
			s.answer(opt, 1<<31+1)
		}
	}
}

// connect plays a script as the server and returns the client's side.
func connect(t *testing.T, structured bool, play func(s *script)) *nbd.Conn {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		s := &script{t, far}
		s.handshake(structured)
		play(s)
	}()
	c, err := nbd.NewConn(t.Context(), near, export, nbd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-done })
	return c
}

// request reads a request's header and returns command, cookie, offset and
// length.
func (s *script) request() (cmd uint16, cookie, off uint64, n uint32) {
	h := s.read(28)
	if h == nil {
		return 2, 0, 0, 0
	}
	b := binary.BigEndian
	return b.Uint16(h[6:]), b.Uint64(h[8:]), b.Uint64(h[16:]), b.Uint32(h[24:])
}

func (s *script) chunk(flags, kind uint16, cookie uint64, data ...any) {
	b := be(data...)
	s.send(0x668e33ef, flags, kind, cookie, len(b), b)
}

func TestReplies(t *testing.T) {
	data := bytes.Repeat([]byte("kvol"), 1024)
	holed := bytes.Clone(data)
	clear(holed[1000:2000])
	for _, c := range []struct {
		name       string
		structured bool
		reply      func(s *script, cookie, off uint64)
		want       []byte
		err        error
		lost       bool // the connection is of no more use
	}{
		{name: "simple", reply: func(s *script, k, _ uint64) { s.send(0x67446698, 0, k, data) }, want: data},
		{name: "simple error", reply: func(s *script, k, _ uint64) { s.send(0x67446698, 28, k) }, err: syscall.ENOSPC},
		{name: "one chunk", structured: true, want: data, reply: func(s *script, k, off uint64) {
			s.chunk(1, 1, k, off, data)
		}},
		{name: "chunks in any order, and a hole", structured: true, reply: func(s *script, k, off uint64) {
			s.chunk(0, 1, k, off+2000, data[2000:])
			s.chunk(0, 2, k, off+1000, 1000)
			s.chunk(0, 1, k, off, data[:1000])
			s.chunk(1, 0, k)
		}, want: holed},
		{name: "error chunk, then the end", structured: true, reply: func(s *script, k, off uint64) {
			s.chunk(0, 1, k, off, data[:1000])
			s.chunk(0, 1<<15+2, k, 5, uint16(3), "why", off)
			s.chunk(1, 0, k)
		}, err: syscall.EIO},
		{name: "bytes left out", structured: true, lost: true, reply: func(s *script, k, off uint64) {
			s.chunk(1, 1, k, off, data[1:])
		}},
		{name: "bytes of elsewhere", structured: true, lost: true, reply: func(s *script, k, off uint64) {
			s.chunk(1, 1, k, off+1, data)
		}},
		{name: "bytes before", structured: true, lost: true, reply: func(s *script, k, off uint64) {
			s.chunk(1, 1, k, off-1, data)
		}},
		{name: "an endless hole", structured: true, lost: true, reply: func(s *script, k, off uint64) {
			s.chunk(1, 2, k, off, -1)
		}},
		{name: "an unknown chunk", structured: true, lost: true, reply: func(s *script, k, off uint64) {
			s.chunk(1, 77, k, "x")
		}},
		{name: "a chunk of gigabytes", structured: true, lost: true, reply: func(s *script, k, off uint64) {
			s.send(0x668e33ef, uint16(1), uint16(77), k, -1)
		}},
		{name: "a reply nobody asked for", lost: true, reply: func(s *script, k, _ uint64) {
			s.send(0x67446698, 0, k+1)
		}},
		{name: "no reply at all", lost: true, reply: func(s *script, k, _ uint64) {
			s.send("HTTP/1.1 200 OK\r\n"[:16])
		}},
		{name: "half a reply", reply: func(s *script, k, _ uint64) { s.send(0x67446698, 0, k, data[:100]) }, lost: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := connect(t, c.structured, func(s *script) {
				cmd, cookie, off, n := s.request()
				if cmd != 0 || off != 4096 || n != 4096 {
					t.Errorf("request %d of %d at %d", cmd, n, off)
				}
				c.reply(s, cookie, off)
				if c.lost {
					return
				}
				if cmd, cookie, _, _ := s.request(); cmd == 3 {
					s.send(0x67446698, 0, cookie)
				}
				s.request() // the farewell
			})
			got := make([]byte, 4096)
			n, err := conn.ReadAt(got, 4096)
			switch {
			case c.want != nil && (err != nil || n != 4096 || !bytes.Equal(got, c.want)):
				t.Errorf("ReadAt: %d, %v", n, err)
			case c.want == nil && err == nil, c.err != nil && !errors.Is(err, c.err):
				t.Errorf("ReadAt: got %v, want %v", err, c.err)
			}
			if err := conn.Flush(); (err != nil) != c.lost {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestBlockStatus(t *testing.T) {
	c := connect(t, true, func(s *script) {
		_, cookie, _, _ := s.request()
		s.chunk(1, 5, cookie, 7, 4096, 0, 8192, 3)
		s.request()
	})
	got, err := c.BlockStatus(4096, size-4096)
	if err != nil || len(got) != 2 || got[0] != (nbd.Extent{Off: 4096, Len: 4096}) ||
		got[1] != (nbd.Extent{Off: 8192, Len: 8192, Zero: true}) {
		t.Errorf("BlockStatus: %v, %v", got, err)
	}
	c = connect(t, false, func(s *script) { s.request() })
	if _, err := c.BlockStatus(0, size); !errors.Is(err, nbd.ErrNoStatus) {
		t.Errorf("without contexts: %v", err)
	}
}

func TestReadAtEnd(t *testing.T) {
	c := connect(t, false, func(s *script) {
		_, cookie, _, n := s.request()
		s.send(0x67446698, 0, cookie, make([]byte, n))
		s.request()
	})
	if n, err := c.ReadAt(make([]byte, 10), size-4); n != 4 || err != io.EOF {
		t.Errorf("across the end: %d, %v", n, err)
	}
	if n, err := c.ReadAt(make([]byte, 10), size+4); n != 0 || err != io.EOF {
		t.Errorf("beyond the end: %d, %v", n, err)
	}
	if _, err := c.ReadAt(make([]byte, 10), -1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("before the beginning: %v", err)
	}
	if c.Size() != size || c.ReadOnly() {
		t.Errorf("Size %d, ReadOnly %v", c.Size(), c.ReadOnly())
	}
}

// TestServerDies: all that is under way fails, and all that comes later.
func TestServerDies(t *testing.T) {
	const calls = 20
	c := connect(t, false, func(s *script) {
		for range calls {
			s.request()
		}
	})
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if _, err := c.ReadAt(make([]byte, 512), 0); err == nil || errors.Is(err, nbd.ErrClosed) {
				t.Errorf("a read from a dead server: %v", err)
			}
		})
	}
	wg.Wait()
	if err := c.Flush(); err == nil {
		t.Error("a flush after that succeeded")
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	asked := make(chan struct{})
	c := connect(t, false, func(s *script) {
		s.request()
		close(asked)
		if cmd, _, _, _ := s.request(); cmd != 2 {
			t.Errorf("the client said %d and not farewell", cmd)
		}
	})
	done := make(chan error)
	go func() { done <- c.Flush() }()
	<-asked
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := <-done; !errors.Is(err, nbd.ErrClosed) {
		t.Errorf("the flush under way: %v", err)
	}
	if err := c.Flush(); !errors.Is(err, nbd.ErrClosed) {
		t.Errorf("a flush after Close: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

func TestDialFails(t *testing.T) {
	for _, url := range []string{
		"http://x/y", "nbd://127.0.0.1:1/x", "nbd+unix:///x?socket=/no/such/socket", "nbd://%zz/",
	} {
		if c, err := nbd.Dial(t.Context(), url, nbd.Options{}); err == nil {
			c.Close()
			t.Errorf("Dial %s succeeded", url)
		}
	}
	near, far := net.Pipe() // a server that says nothing
	defer far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := nbd.NewConn(ctx, near, export, nbd.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a handshake that was cancelled: %v", err)
	}
}

// TestAgainstNbdkit: a server of others, with and without structured replies.
func TestAgainstNbdkit(t *testing.T) {
	path, err := exec.LookPath("nbdkit")
	switch {
	case err == nil:
	case os.Getenv("KVOL_REQUIRE_TOOLS") == "1":
		t.Fatal("nbdkit is not installed, and KVOL_REQUIRE_TOOLS=1")
	default:
		t.Skip("NOT TESTED: NBDKIT IS NOT INSTALLED")
	}
	for name, args := range map[string][]string{
		"structured": {"memory", "16M"}, "simple": {"memory", "16M", "--no-sr"},
	} {
		t.Run(name, func(t *testing.T) {
			near, far := socketPair(t)
			cmd := exec.CommandContext(t.Context(), path, append([]string{"-f", "-s"}, args...)...)
			cmd.Stdin, cmd.Stdout = far, far
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			far.Close()
			c, err := nbd.NewConn(t.Context(), near, "", nbd.Options{})
			if err != nil {
				t.Fatal(err)
			}
			exercise(t, c)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("nbdkit: %v", err)
			}
		})
	}
}

// socketPair returns two ends: one for us, one for a child.
func socketPair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	mine := os.NewFile(uintptr(fds[0]), "near")
	defer mine.Close()
	near, err := net.FileConn(mine)
	if err != nil {
		t.Fatal(err)
	}
	return near, os.NewFile(uintptr(fds[1]), "far")
}

// exercise writes and reads from many goroutines, each its own part.
func exercise(t *testing.T, c *nbd.Conn) {
	const parts = 8
	part := c.Size() / parts
	var wg sync.WaitGroup
	for i := range int64(parts) {
		wg.Go(func() {
			want := bytes.Repeat([]byte{byte(i + 1)}, int(part))
			if _, err := c.WriteAt(want, i*part); err != nil {
				t.Error(err)
			}
			if err := c.WriteZeroes(i*part+100, 5000, i%2 == 0); err != nil {
				t.Error(err)
			}
			clear(want[100:5100])
			got := make([]byte, part)
			if _, err := c.ReadAt(got, i*part); err != nil || !bytes.Equal(got, want) {
				t.Errorf("part %d: %v", i, err)
			}
			if err := c.Trim(i*part+8192, 4096); err != nil {
				t.Error(err)
			}
			if err := c.Flush(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := c.WriteAt(make([]byte, 512), c.Size()); err == nil {
		t.Error("a write beyond the end succeeded")
	}
}
