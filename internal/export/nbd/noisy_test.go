package nbd_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"kvol/internal/block"
	client "kvol/internal/client/nbd"
	"kvol/internal/driver"
	"kvol/internal/driver/logstore"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
	"kvol/internal/export/qos"
)

// street is two volumes of one store, of which "noisy" may have limits.
type street struct {
	devices map[string]driver.Device
	noisy   func(bool, int64) time.Duration
}

func (s *street) Open(_ context.Context, name string) (nbd.Export, error) {
	e := nbd.Export{Device: s.devices[name]}
	if e.Device == nil {
		return e, block.Errorf(block.NotFound, "no such export")
	}
	if name == "noisy" {
		e.Throttle = s.noisy
	}
	return e, nil
}

// BenchmarkNoisyNeighbour measures what a quiet volume still gets while another
// one on the same store is written to as fast as it goes, without limits on the
// noisy one and with them:
//
//	go test -run '^$' -bench NoisyNeighbour -benchtime 5x ./internal/export/nbd
//
// A round is half a second of each, one after another; what is printed are
// medians over the rounds: requests a second of the quiet volume (4 KiB, half
// of them reads, one at a time), as a part of what it gets alone.
func BenchmarkNoisyNeighbour(b *testing.B) {
	const size = 256 << 20
	store, err := logstore.Open(b.Context(), logstore.Options{Dir: b.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := errors.Join(store.Check(context.Background()), store.Close()); err != nil {
			b.Error(err)
		}
	}()
	s := &street{devices: map[string]driver.Device{}}
	for _, name := range []string{"quiet", "noisy"} {
		id := block.VolumeID(block.NewID())
		if err := store.CreateVolume(b.Context(), id, size); err != nil {
			b.Fatal(err)
		}
		dev, err := store.OpenVolume(b.Context(), id)
		if err != nil {
			b.Fatal(err)
		}
		defer dev.Close()
		s.devices[name] = dev
	}
	path, stop := serve(b, nbd.Config{Exports: s, Log: slog.New(slog.DiscardHandler)})
	defer stop()
	var free, limited []float64
	for range b.N {
		alone := neighbours(b, s, path, nil, false)
		free = append(free, neighbours(b, s, path, nil, true)/alone)
		limits := qos.LimitsOf(map[string]int64{"total_iops_sec": 500, "total_bytes_sec": 16 << 20})
		limited = append(limited, neighbours(b, s, path, &limits, true)/alone)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(free), "of-alone/noisy-free")
	b.ReportMetric(median(limited), "of-alone/noisy-limited")
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// neighbours returns what the quiet volume gets, in requests a second.
func neighbours(b *testing.B, s *street, path string, limits *qos.Limits, noisy bool) float64 {
	b.Helper()
	s.noisy = nil
	if limits != nil {
		l := qos.NewLimiter(nil)
		l.Set(*limits)
		s.noisy = l.Take
	}
	dial := func(name string) *client.Conn {
		c, err := client.Dial(b.Context(), "nbd+unix:///"+name+"?socket="+path, client.Options{})
		if err != nil {
			b.Fatal(err)
		}
		return c
	}
	end := make(chan struct{})
	var others sync.WaitGroup
	var loud *client.Conn
	if noisy {
		loud = dial("noisy")
		for i := range 32 {
			others.Go(func() {
				rnd, p := rand.New(rand.NewPCG(uint64(i), 3)), exporttest.Fill(byte(i), 64<<10)
				for {
					select {
					case <-end:
						return
					default:
					}
					if _, err := loud.WriteAt(p, rnd.Int64N(loud.Size()/int64(len(p)))*int64(len(p))); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
	}
	quiet, p, n := dial("quiet"), exporttest.Fill(1, 4096), 0
	begin := time.Now()
	for rnd := rand.New(rand.NewPCG(1, 4)); time.Since(begin) < 500*time.Millisecond; n++ {
		off := rnd.Int64N(quiet.Size()/4096) * 4096
		var err error
		if n%2 == 0 {
			_, err = quiet.WriteAt(p, off)
		} else {
			_, err = quiet.ReadAt(p, off)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	rate := float64(n) / time.Since(begin).Seconds()
	close(end)
	others.Wait()
	quiet.Close()
	if loud != nil {
		loud.Close()
	}
	return rate
}
