package logstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"kvol/internal/block"
	"kvol/internal/driver"
)

const benchSpan = 1 << 30 // bytes that random writes go over

// benchWrites writes 4 KiB at random places and syncs after every 16th.
func benchWrites(b *testing.B, write func(p []byte, off int64) error, sync func() error) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, blockSize)
	b.SetBytes(blockSize)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		le.PutUint64(p, rng.Uint64())
		if err := write(p, rng.Int64N(benchSpan/blockSize)*blockSize); err != nil {
			b.Fatal(err)
		}
		if i%16 == 15 {
			if err := sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkRandomWrite4KFlush16 compares the store with a raw file that was
// written once before, on the same disk.
func BenchmarkRandomWrite4KFlush16(b *testing.B) {
	b.Run("raw", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
		must(b, err)
		defer f.Close()
		zeros := make([]byte, 1<<20)
		for off := int64(0); off < benchSpan; off += 1 << 20 {
			_, err := f.WriteAt(zeros, off)
			must(b, err)
		}
		must(b, f.Sync())
		benchWrites(b, func(p []byte, off int64) error { _, err := f.WriteAt(p, off); return err },
			func() error { return unix.Fdatasync(int(f.Fd())) })
	})
	for _, name := range []string{"store", "store, a snapshot each 1000"} {
		b.Run(name, func(b *testing.B) {
			s, d := benchVolume(b, benchSpan)
			n := 0
			benchWrites(b, func(p []byte, off int64) error {
				if n++; n%1000 == 0 && name != "store" {
					must(b, s.CreateSnapshot(b.Context(), driver.SnapshotRef{Volume: "v", Name: block.PointID(fmt.Sprint(n))}))
				}
				_, err := d.WriteAt(p, off)
				return err
			}, d.Flush)
		})
	}
}

func benchVolume(b *testing.B, size int64) (*Store, driver.Device) {
	s, err := Open(context.Background(), Options{Dir: b.TempDir(), Log: quiet()})
	must(b, err)
	must(b, s.CreateVolume(context.Background(), "v", size))
	d, err := s.OpenVolume(context.Background(), "v")
	must(b, err)
	must(b, s.pool.wait(readyTarget)) // segments are filled in the background
	b.Cleanup(func() {
		d.Close()
		must(b, s.Check(context.Background()))
		must(b, s.Close())
	})
	return s, d
}

var benchSizes = []struct {
	name string
	size int64
}{{"1GiB", 1 << 30}, {"1TiB", 1 << 40}}

// benchFilled is a sparse volume with a thousand writes all over it.
func benchFilled(b *testing.B, size int64) (*Store, driver.Device) {
	s, d := benchVolume(b, size)
	rng := rand.New(rand.NewPCG(3, 4))
	p := make([]byte, blockSize)
	for range 1000 {
		_, err := d.WriteAt(p, rng.Int64N(size/blockSize)*blockSize)
		must(b, err)
	}
	must(b, d.Flush())
	return s, d
}

func BenchmarkSnapshot(b *testing.B) {
	for _, c := range benchSizes {
		b.Run(c.name, func(b *testing.B) {
			s, _ := benchFilled(b, c.size)
			b.ResetTimer()
			for i := range b.N {
				must(b, s.CreateSnapshot(b.Context(), driver.SnapshotRef{Volume: "v", Name: block.PointID(fmt.Sprint(i))}))
			}
		})
	}
}

// BenchmarkClone makes a clone and reads a block of it.
func BenchmarkClone(b *testing.B) {
	for _, c := range benchSizes {
		b.Run(c.name, func(b *testing.B) {
			s, _ := benchFilled(b, c.size)
			ref := driver.SnapshotRef{Volume: "v", Name: "s"}
			must(b, s.CreateSnapshot(b.Context(), ref))
			p := make([]byte, blockSize)
			b.ResetTimer()
			for i := range b.N {
				id := block.VolumeID(fmt.Sprint("c", i))
				must(b, s.CloneSnapshot(b.Context(), id, ref, c.size))
				d, err := s.OpenVolume(b.Context(), id)
				must(b, err)
				_, err = d.ReadAt(p, int64(i)*blockSize)
				must(b, err)
				must(b, d.Close())
			}
		})
	}
}

// BenchmarkRead reads what was written at random, 4 KiB at a time, from the
// page cache; and all of it in order, 1 MiB at a time.
func BenchmarkRead(b *testing.B) {
	const span = 64 << 20
	_, d := benchVolume(b, span)
	rng := rand.New(rand.NewPCG(5, 6))
	for _, i := range rng.Perm(span / blockSize) {
		_, err := d.WriteAt(randomBytes(rng, blockSize), int64(i)*blockSize)
		must(b, err)
	}
	for name, n := range map[string]int64{"random4K": blockSize, "sequential1M": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(n)
			b.ReportAllocs()
			for i := range b.N {
				off := int64(i) * n % span
				if n == blockSize {
					off = rng.Int64N(span/n) * n
				}
				_, err := d.ReadAt(p, off)
				must(b, err)
			}
		})
	}
}

// BenchmarkWrite1M writes in order, 1 MiB at a time, without a flush.
func BenchmarkWrite1M(b *testing.B) {
	_, d := benchVolume(b, benchSpan)
	p := randomBytes(rand.New(rand.NewPCG(7, 8)), 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		_, err := d.WriteAt(p, int64(i)<<20%benchSpan)
		must(b, err)
	}
}
