package logstore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
)

var update = flag.Bool("update", false, "make the fixture of the present format anew")

// fixtureName is a store of one format, packed.
func fixtureName(format int) string {
	return filepath.Join("testdata", fmt.Sprintf("format-%d.tar.gz", format))
}

// fixtureState plays a fixed history on a store.
func fixtureState(t *testing.T, s *Store) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(11, 12))
	must(t, s.CreateVolume(ctx, "v", crashSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	write := func(first, n int64) {
		_, err := d.WriteAt(randomBytes(rng, int(n)*blockSize), first*blockSize)
		must(t, err)
	}
	write(0, 3)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "a"}))
	write(1, 1)
	write(leafBlocks-1, 2)
	must(t, d.Zero(0, blockSize))
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "b"}))
	write(5, 2)
	must(t, s.CloneSnapshot(ctx, "c", driver.SnapshotRef{Volume: "v", Name: "a"}, crashSize))
	must(t, s.ExtendVolume(ctx, "c", crashSize+8*blockSize))
	must(t, d.Close())
	must(t, s.Revert(ctx, driver.SnapshotRef{Volume: "v", Name: "b"}))
	if d, err = s.OpenVolume(ctx, "v"); err != nil {
		t.Fatal(err)
	}
	write(7, 1)
	must(t, d.Flush())
	must(t, d.Close())
}

// TestFormatFixtures opens a store of each format that there ever was and sees
// that everything in it is as it was written.
func TestFormatFixtures(t *testing.T) {
	ctx := context.Background()
	if *update {
		dir := t.TempDir()
		s, err := Open(ctx, Options{Dir: dir, SegmentSize: minSegment, Log: quiet(), idle: true})
		must(t, err)
		fixtureState(t, s)
		s.mu.Lock()
		for br := range s.candidates {
			br.deep = true // format 2: an absorbed branch
		}
		s.mu.Unlock()
		must(t, s.tidyBranches(ctx))
		must(t, s.Check(ctx))
		must(t, s.Close())
		must(t, os.WriteFile(fixtureName(formatVersion), pack(t, dir), 0o644))
	}
	ref := openTest(t, Options{Dir: t.TempDir(), SegmentSize: minSegment})
	fixtureState(t, ref)
	want, err := readAll(ctx, ref)
	must(t, err)
	for format := 1; format <= formatVersion; format++ {
		s := openTest(t, Options{Dir: unpack(t, fixtureName(format))})
		got, err := readAll(ctx, s)
		must(t, err)
		if d := got.differs(want); d != "" {
			t.Errorf("format %d: %s", format, d)
		}
		must(t, checkDiffs(ctx, s, want))
		must(t, s.Check(ctx))
	}
}

// TestOtherFormats sees that a store of a format that this program does not
// know is refused with a sentence that says what to do, and left alone.
func TestOtherFormats(t *testing.T) {
	for version, want := range map[uint32]string{
		formatVersion + 1: "newer",
		0:                 "older",
	} {
		dir := unpack(t, fixtureName(formatVersion))
		name := filepath.Join(dir, superName)
		p, err := os.ReadFile(name)
		must(t, err)
		for at := 0; at < len(p); at += superSize {
			if slot, ok := parseSuper(p[at:]); ok {
				slot.version = version
				copy(p[at:], slot.encode())
			}
		}
		must(t, os.WriteFile(name, p, 0o600))
		before := pack(t, dir)
		_, err = Open(context.Background(), Options{Dir: dir, Log: quiet()})
		if !block.Is(err, block.Unsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("format %d: %v", version, err)
		}
		if !bytes.Equal(before, pack(t, dir)) {
			t.Errorf("format %d: the store was changed", version)
		}
	}
}

func pack(t *testing.T, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	var names []string
	must(t, filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			names = append(names, p)
		}
		return err
	}))
	slices.Sort(names)
	for _, name := range names {
		p, err := os.ReadFile(name)
		must(t, err)
		rel, err := filepath.Rel(dir, name)
		must(t, err)
		must(t, w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(p))}))
		_, err = w.Write(p)
		must(t, err)
	}
	must(t, w.Close())
	must(t, z.Close())
	return out.Bytes()
}

func unpack(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		must(t, err)
		to := filepath.Join(dir, filepath.FromSlash(h.Name))
		must(t, os.MkdirAll(filepath.Dir(to), 0o700))
		p, err := io.ReadAll(r)
		must(t, err)
		must(t, os.WriteFile(to, p, 0o600))
	}
}
