package nbd_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	client "kvol/internal/client/nbd"
	"kvol/internal/driver/mem"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

func connect(t testing.TB, path string) *client.Conn {
	t.Helper()
	c, err := client.Dial(t.Context(), "nbd+unix:///vol?socket="+path, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestManyClients lets many goroutines on several connections write, zero and
// read at once, each in its own part of the volume and against its own copy.
func TestManyClients(t *testing.T) {
	const conns, each, part, steps = 3, 6, 512 << 10, 150
	s := newShelf(t, conns*each*part)
	path, _ := serve(t, nbd.Config{Exports: s, Limits: nbd.Limits{Requests: 5, Workers: 3}})
	var wg sync.WaitGroup
	for i := range conns {
		c := connect(t, path)
		for j := range each {
			wg.Go(func() {
				seed := uint64(i*each + j)
				if err := play(c, rand.New(rand.NewPCG(seed, 1)), int64(seed)*part, part, steps); err != nil {
					t.Errorf("part %d: %v", seed, err)
				}
			})
		}
	}
	wg.Wait()
}

func play(c *client.Conn, rnd *rand.Rand, base, part int64, steps int) error {
	want := make([]byte, part)
	got := make([]byte, part)
	for range steps {
		off := rnd.Int64N(part)
		n := min(part-off, 1+rnd.Int64N(1<<(6+rnd.IntN(13))))
		var err error
		switch rnd.IntN(6) {
		case 0, 1:
			_, _ = rand.NewChaCha8([32]byte{byte(rnd.Uint32())}).Read(want[off : off+n])
			_, err = c.WriteAt(want[off:off+n], base+off)
		case 2:
			clear(want[off : off+n])
			err = c.WriteZeroes(base+off, n, rnd.IntN(2) == 0)
		case 3:
			err = c.Flush()
		default:
			_, err = c.ReadAt(got[:n], base+off)
			if err == nil && !bytes.Equal(got[:n], want[off:off+n]) {
				err = fmt.Errorf("%d bytes at %d read otherwise than written", n, off)
			}
		}
		if err != nil {
			return err
		}
	}
	if _, err := c.ReadAt(got, base); err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("in the end something differs: %v", err)
	}
	return nil
}

// BenchmarkNBD measures the way through protocol, socket and reference driver.
func BenchmarkNBD(b *testing.B) {
	const size = 64 << 20
	store := mem.New(mem.Options{})
	if err := store.CreateVolume(b.Context(), "v", size); err != nil {
		b.Fatal(err)
	}
	dev, err := store.OpenVolume(b.Context(), "v")
	if err != nil {
		b.Fatal(err)
	}
	s := &shelf{Volume: &exporttest.Volume{Device: dev}}
	if _, err := dev.WriteAt(exporttest.Fill(1, size), 0); err != nil {
		b.Fatal(err)
	}
	path, _ := serve(b, nbd.Config{Exports: s, Log: slog.New(slog.DiscardHandler)})
	for _, m := range []struct {
		name        string
		write       bool
		bytes       int
		conns, deep int
	}{
		{"read/4k/depth1", false, 4 << 10, 1, 1}, {"read/4k/depth32", false, 4 << 10, 1, 32},
		{"write/4k/depth1", true, 4 << 10, 1, 1}, {"write/4k/depth32", true, 4 << 10, 1, 32},
		{"write/4k/depth8x4", true, 4 << 10, 4, 8}, {"read/1M/depth4", false, 1 << 20, 1, 4},
		{"write/1M/depth4", true, 1 << 20, 1, 4},
	} {
		b.Run(m.name, func(b *testing.B) {
			var conns []*client.Conn
			for range m.conns {
				conns = append(conns, connect(b, path))
			}
			b.SetBytes(int64(m.bytes))
			b.ReportAllocs()
			b.ResetTimer()
			load(b, conns, m.deep, m.bytes, m.write)
		})
	}
}

func load(b *testing.B, conns []*client.Conn, depth, n int, write bool) {
	var wg sync.WaitGroup
	workers := len(conns) * depth
	for i := range workers {
		c := conns[i%len(conns)]
		wg.Go(func() {
			rnd, p := rand.New(rand.NewPCG(uint64(i), 2)), make([]byte, n)
			for j := i; j < b.N; j += workers {
				off := rnd.Int64N(c.Size()/int64(n)) * int64(n)
				var err error
				if write {
					_, err = c.WriteAt(p, off)
				} else {
					_, err = c.ReadAt(p, off)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
