package demo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"

	"kvol/internal/client/nbd"
)

// Where things lie on the demo's volume, in bytes.
const (
	imageAt   = 0
	imageSize = 48 << 20
	noiseAt   = 64 << 20
	noiseSize = 48 << 20
	churnAt   = 256 << 20
	churnSize = 64 << 20
	blockSize = 4096
	volumeGiB = 1
)

// tree is a file tree in a file system image: names and what is in them.
type tree map[string][]byte

// makeImage writes a FAT32 image with a tree of files into a file.
func makeImage(path string, rnd *rand.Rand) (files tree, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(imageSize); err != nil {
		return nil, err
	}
	fs, err := fat32.Create(file.New(f, false), imageSize, 0, 512, "KVOL", false)
	if err != nil {
		return nil, fmt.Errorf("make a file system image: %w", err)
	}
	files = tree{}
	for d := range 4 {
		sub := fmt.Sprintf("/dir%d", d)
		if err := fs.Mkdir(sub); err != nil {
			return nil, err
		}
		for i := range 8 {
			name := fmt.Sprintf("%s/file%d.bin", sub, i)
			// Whole sectors: the library misreads the ends of some files that end
			// within one.
			files[name] = noise(rnd, 512*(1+rnd.IntN(600)))
			out, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
			if err != nil {
				return nil, err
			}
			if _, err := out.Write(files[name]); err != nil {
				return nil, err
			}
			if err := out.Close(); err != nil {
				return nil, err
			}
		}
	}
	return files, nil
}

// checkTree opens the image that lies on a volume and compares every file.
func checkTree(dir string, volume io.ReaderAt, files tree) error {
	f, err := os.Create(filepath.Join(dir, "check.img"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := io.Copy(f, io.NewSectionReader(volume, imageAt, imageSize)); err != nil {
		return err
	}
	fs, err := fat32.Read(file.New(f, true), imageSize, 0, 512)
	if err != nil {
		return fmt.Errorf("the file system does not open: %w", err)
	}
	for name, want := range files {
		in, err := fs.OpenFile(name, os.O_RDONLY)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		got, err := io.ReadAll(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs", name)
		}
	}
	return nil
}

func noise(rnd *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := 0; i+8 <= n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rnd.Uint64())
	}
	return p
}

// journal remembers every write that was sent, in order, so that any prefix
// of them can be told from anything else.
type journal struct {
	mu     sync.Mutex
	writes []churn
}

type churn struct {
	off int64
	at  time.Time // when it was acknowledged; zero if it never was
}

// block is the content of write number n: its number, then bytes drawn from it.
func (w churn) block(n int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(n), uint64(w.off)))
	p := noise(rnd, blockSize)
	binary.LittleEndian.PutUint64(p, uint64(n)+1)
	return p
}

// churnUntil writes random blocks, one after the other with a flush every 16,
// until ctx ends or the connection breaks, and notes when each was acknowledged.
func (j *journal) churnUntil(ctx context.Context, c *nbd.Conn, rnd *rand.Rand) error {
	for ctx.Err() == nil {
		j.mu.Lock()
		n := len(j.writes)
		j.mu.Unlock()
		w := churn{off: churnAt + rnd.Int64N(churnSize/blockSize)*blockSize}
		j.mu.Lock()
		j.writes = append(j.writes, w) // before it is sent: it may be there though nobody ever said so
		j.mu.Unlock()
		if _, err := c.WriteAt(w.block(n), w.off); err != nil {
			return err
		}
		j.mu.Lock()
		j.writes[n].at = time.Now()
		j.mu.Unlock()
		if n%16 == 15 {
			if err := c.Flush(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond): // about a thousand a second leaves the machine room
		}
	}
	return nil
}

// acknowledged returns how many writes were acknowledged, and when the last
// one was.
func (j *journal) acknowledged() (n int, last time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for n = len(j.writes); n > 0 && j.writes[n-1].at.IsZero(); n-- {
	}
	if n > 0 {
		last = j.writes[n-1].at
	}
	return n, last
}

// lossSince is the time from the last write that was kept to the last one
// that was acknowledged: what a user would say was lost.
func (j *journal) lossSince(kept int, last time.Time) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	if kept == 0 || kept > len(j.writes) || j.writes[kept-1].at.IsZero() {
		return 0
	}
	return last.Sub(j.writes[kept-1].at)
}

// prefix finds how many of the journal's writes are on a volume and proves that
// it is exactly those: every block of the churned region must be what the first
// k writes leave.
func (j *journal) prefix(volume io.ReaderAt) (k int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err = churned(volume, func(_ int64, p []byte) error {
		k = max(k, int(binary.LittleEndian.Uint64(p)))
		return nil
	})
	if err != nil {
		return 0, err
	}
	if k > len(j.writes) {
		return 0, fmt.Errorf("write %d of %d is there", k, len(j.writes))
	}
	last := map[int64]int{}
	for n, w := range j.writes[:k] {
		last[w.off] = n
	}
	zero := make([]byte, blockSize)
	return k, churned(volume, func(off int64, p []byte) error {
		want := zero
		if n, written := last[off]; written {
			want = j.writes[n].block(n)
		}
		if !bytes.Equal(p, want) {
			return fmt.Errorf("the block at %d is not what the first %d writes leave", off, k)
		}
		return nil
	})
}

// churned runs fn on each block of the churned region.
func churned(volume io.ReaderAt, fn func(off int64, p []byte) error) error {
	buf := make([]byte, pieceSize)
	for at := int64(churnAt); at < churnAt+churnSize; at += pieceSize {
		if _, err := volume.ReadAt(buf, at); err != nil {
			return err
		}
		for i := 0; i < pieceSize; i += blockSize {
			if err := fn(at+int64(i), buf[i:i+blockSize]); err != nil {
				return err
			}
		}
	}
	return nil
}

// pieceSize is how much of a volume is held in memory at once.
const pieceSize = 4 << 20

// pieces reads a whole volume in order. Pieces that the server tells to be
// zeros are not asked for. fn must not keep p.
func pieces(c *nbd.Conn, fn func(off int64, p []byte) error) error {
	buf := make([]byte, pieceSize)
	for off := int64(0); off < c.Size(); off += pieceSize {
		p := buf[:min(pieceSize, c.Size()-off)]
		hole, err := isHole(c, off, int64(len(p)))
		if err != nil {
			return err
		}
		if hole {
			clear(p)
		} else if _, err := c.ReadAt(p, off); err != nil {
			return err
		}
		if err := fn(off, p); err != nil {
			return err
		}
	}
	return nil
}

func isHole(c *nbd.Conn, off, length int64) (bool, error) {
	status, err := c.BlockStatus(off, length)
	if errors.Is(err, nbd.ErrNoStatus) {
		return false, nil
	}
	return err == nil && status[0].Zero && status[0].Len >= length, err
}

// zeros reads as zeros for ever.
type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// put writes what r holds to a volume.
func put(c *nbd.Conn, r io.Reader, at int64) error {
	_, err := io.CopyBuffer(io.NewOffsetWriter(c, at), struct{ io.Reader }{r}, make([]byte, 1<<20))
	return err
}
