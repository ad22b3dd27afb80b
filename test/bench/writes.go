package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"kvol/internal/client"
	nbdclient "kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/export/nbd"
)

const (
	region     = int64(1) << 30 // bytes that are written over
	writeCount = 8000
	flushEvery = 16
)

// writes compares random 4-KiB writes with a flush every 16 through NBD with
// qemu-nbd on a raw file on the same disk: the same client, the same socket
// kind, the volume written full before.
func (b *bench) writes(ctx context.Context) error {
	raw := filepath.Join(b.dir, "raw.img")
	if err := fill(raw); err != nil {
		return err
	}
	socket := filepath.Join(b.dir, "qemu.sock")
	qemu, err := start("qemu-nbd", "-f", "raw", "-t", "-k", socket, "-x", "vol", raw)
	if err != nil {
		return fmt.Errorf("qemu-nbd (package qemu-utils): %w", err)
	}
	defer qemu.stop()
	ours, stop, err := b.serve(ctx)
	if err != nil {
		return err
	}
	defer stop()
	peer := "nbd+unix:///vol?socket=" + socket
	for _, c := range []struct {
		work  string
		depth int
	}{{"4-KiB random writes, flush every 16, depth 1, NBD", 1}, {"the same, depth 32", 32}} {
		var kvol, theirs []float64
		for range b.rounds {
			for _, side := range []struct {
				url string
				to  *[]float64
			}{{ours, &kvol}, {peer, &theirs}} {
				rate, err := randomWrites(ctx, side.url, c.depth)
				if err != nil {
					return err
				}
				*side.to = append(*side.to, rate)
			}
		}
		b.speed(c.work, kvol, theirs, "qemu-nbd raw", 1)
	}
	return nil
}

// fill writes a file full, so that nothing is allocated while it is measured.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, 1<<20)
	for off := int64(0); off < region; off += int64(len(p)) {
		p[0] = byte(off >> 20)
		p[1] = 1
		if _, err := f.WriteAt(p, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// serve exports one full volume of an embedded store on a Unix socket.
func (b *bench) serve(ctx context.Context) (url string, stop func(), err error) {
	store, err := logstore.Open(ctx, logstore.Options{Dir: filepath.Join(b.dir, "store")})
	if err != nil {
		return "", nil, err
	}
	if err := store.CreateVolume(ctx, "vol", region); err != nil {
		return "", nil, err
	}
	d, err := store.OpenVolume(ctx, "vol")
	if err != nil {
		return "", nil, err
	}
	p := make([]byte, 1<<20)
	for off := int64(0); off < region; off += int64(len(p)) {
		p[0] = byte(off >> 20)
		p[1] = 1
		if _, err := d.WriteAt(p, off); err != nil {
			return "", nil, err
		}
	}
	if err := d.Flush(); err != nil {
		return "", nil, err
	}
	socket := filepath.Join(b.dir, "kvol.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- nbd.New(nbd.Config{Exports: single{d}}).Serve(ctx, l) }()
	return "nbd+unix:///vol?socket=" + socket, func() {
		cancel()
		<-ended
		_ = d.Close()
		_ = store.Close() // the directory goes with it
	}, nil
}

// single exports one device under every name.
type single struct{ device driver.Device }

func (s single) Open(context.Context, string) (nbd.Export, error) {
	return nbd.Export{Device: s.device, Release: func() {}}, nil
}

// randomWrites makes writeCount writes and returns how many a second.
func randomWrites(ctx context.Context, url string, depth int) (float64, error) {
	var c *nbdclient.Conn
	err := client.Poll(ctx, 10*time.Millisecond, func() (bool, error) {
		var err error
		c, err = nbdclient.Dial(ctx, url, nbdclient.Options{})
		return err == nil, nil // the server may be starting
	})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	began := time.Now()
	errs := make(chan error, depth)
	for worker := range depth {
		go func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 1))
			p := make([]byte, 4096)
			for i := range writeCount / depth {
				p[0], p[1] = byte(i), byte(worker+1)
				if _, err := c.WriteAt(p, rnd.Int64N(region/4096)*4096); err != nil {
					errs <- err
					return
				}
				if i%flushEvery == flushEvery-1 {
					if err := c.Flush(); err != nil {
						errs <- err
						return
					}
				}
			}
			errs <- nil
		}()
	}
	for range depth {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	return float64(writeCount/depth*depth) / time.Since(began).Seconds(), nil
}
