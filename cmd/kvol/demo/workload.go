package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
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

// makeImage writes a FAT32 image with a tree of files into a temporary file in
// dir and returns its bytes.
func makeImage(dir string, rnd *rand.Rand) (image []byte, files tree, err error) {
	path := filepath.Join(dir, "tree.img")
	f, err := os.Create(path)
	if err != nil {
		return nil, nil, err
	}
	defer os.Remove(path)
	defer f.Close()
	if err := f.Truncate(imageSize); err != nil {
		return nil, nil, err
	}
	fs, err := fat32.Create(file.New(f, false), imageSize, 0, 512, "KVOL", false)
	if err != nil {
		return nil, nil, fmt.Errorf("make a file system image: %w", err)
	}
	files = tree{}
	for d := range 4 {
		sub := fmt.Sprintf("/dir%d", d)
		if err := fs.Mkdir(sub); err != nil {
			return nil, nil, err
		}
		for i := range 8 {
			name := fmt.Sprintf("%s/file%d.bin", sub, i)
			// Whole sectors: the library misreads the ends of some files that end
			// within one.
			files[name] = noise(rnd, 512*(1+rnd.IntN(600)))
			out, err := fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
			if err != nil {
				return nil, nil, err
			}
			if _, err := out.Write(files[name]); err != nil {
				return nil, nil, err
			}
			if err := out.Close(); err != nil {
				return nil, nil, err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return nil, nil, err
	}
	image, err = os.ReadFile(path)
	return image, files, err
}

// checkTree opens the image found on a volume and compares every file.
func checkTree(dir string, image []byte, files tree) error {
	path := filepath.Join(dir, "check.img")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		return err
	}
	defer os.Remove(path)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
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

// prefix finds how many of the journal's writes are in the churned region and
// proves that it is exactly those: every block must be what the first k writes
// leave.
func (j *journal) prefix(region []byte) (k int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for off := 0; off < len(region); off += blockSize {
		k = max(k, int(binary.LittleEndian.Uint64(region[off:])))
	}
	if k > len(j.writes) {
		return 0, fmt.Errorf("write %d of %d is there", k, len(j.writes))
	}
	last := map[int64]int{}
	for n, w := range j.writes[:k] {
		last[w.off] = n
	}
	zero := make([]byte, blockSize)
	for off := 0; off < len(region); off += blockSize {
		want := zero
		if n, written := last[int64(off)+churnAt]; written {
			want = j.writes[n].block(n)
		}
		if !bytes.Equal(region[off:off+blockSize], want) {
			return 0, fmt.Errorf("the block at %d is not what the first %d writes leave", off+churnAt, k)
		}
	}
	return k, nil
}

// readAll reads a whole volume.
func readAll(c *nbd.Conn) ([]byte, error) {
	all := make([]byte, c.Size())
	const piece = 4 << 20
	for off := int64(0); off < c.Size(); off += piece {
		if _, err := c.ReadAt(all[off:min(off+piece, c.Size())], off); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func sum(p []byte) string { return fmt.Sprintf("%x", sha256.Sum256(p)) }
