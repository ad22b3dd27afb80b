package control

import (
	"bytes"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
	"kvol/internal/job"
	"kvol/internal/vfs"
)

const mib = int64(1) << 20

// scratchZone is a Service whose conversions have a file system of 1000 MiB, of which
// 50 stay free.
type scratchZone struct {
	*Service
	t    *testing.T
	free int64 // bytes
	now  time.Time
}

func newScratchZone(t *testing.T) *scratchZone {
	t.Helper()
	z := &scratchZone{t: t, free: 1000 * mib, now: time.Unix(1e9, 0)}
	c, err := catalog.Open(t.Context(), catalog.Options{Image: catalogtest.Empty()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	set, err := driver.NewSet(map[string]driver.Driver{"one": mem.New(mem.Options{})},
		[]block.Backend{{Name: "fast", Store: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	z.Service, err = New(Config{Catalog: c, Backends: set, Zone: "mitaka1", TempDir: filepath.Join(t.TempDir(), "tmp"),
		Now:   func() time.Time { return z.now },
		Space: func(string) (vfs.Space, error) { return vfs.Space{Total: 1000 * mib, Free: z.free}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func (z *scratchZone) begin(id block.JobID, need int64) (*conversion, error) {
	return z.beginConversion(&job.Task{Job: block.Job{ID: id}}, need)
}

func (z *scratchZone) must(c *conversion, err error) *conversion {
	z.t.Helper()
	if err != nil {
		z.t.Fatal(err)
	}
	return c
}

// putsOff fails the test unless err puts the job off.
func (z *scratchZone) putsOff(err error) {
	z.t.Helper()
	if !job.Waits(err) || !block.Is(err, block.Unavailable) {
		z.t.Errorf("%v, want that it is put off", err)
	}
}

// Conversions get no more room together than there is, whether what they have was
// written already or not.
func TestConversionsShareTheRoom(t *testing.T) {
	z := newScratchZone(t)
	one := z.must(z.begin(1, 600*mib))
	_, err := z.begin(2, 400*mib)
	z.putsOff(err)
	two := z.must(z.begin(3, 300*mib))
	written := bytes.Repeat([]byte{1}, int(10*mib))
	if err := os.WriteFile(filepath.Join(one.dir, "raw"), written, 0o600); err != nil {
		t.Fatal(err)
	}
	z.free -= used(one.dir)
	if got := used(one.dir); got < 10*mib {
		t.Fatalf("a file of 10 MiB uses %d bytes", got)
	}
	if err := two.reserve(350 * mib); err != nil {
		t.Errorf("what was written counts twice: %v", err)
	}
	if err := one.reserve(600 * mib); err != nil {
		t.Errorf("a conversion's own files stand in its way: %v", err)
	}
	z.putsOff(one.reserve(600*mib + 1))
	z.free += used(one.dir)
	if err := one.end(); err != nil {
		t.Fatal(err)
	}
	if err := z.must(z.begin(2, 400*mib)).end(); err != nil {
		t.Fatal(err)
	}
	if err := two.end(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(z.cfg.TempDir)
	if err != nil || len(left) > 0 || len(z.conversions.open) > 0 {
		t.Errorf("left %v, %v; %d are said to be under way", left, err, len(z.conversions.open))
	}
}

// What never fits fails at once; what others stand in the way of, after a while. A job
// that found out what it needs begins with that.
func TestConversionsThatWait(t *testing.T) {
	z := newScratchZone(t)
	refused := func(err error) {
		t.Helper()
		if job.Waits(err) || !block.Is(err, block.NoSpace) {
			t.Errorf("%v, want no space", err)
		}
	}
	_, err := z.begin(1, 951*mib)
	refused(err)
	z.free = 500 * mib
	c := z.must(z.begin(2, 10*mib))
	z.putsOff(c.reserve(600 * mib))
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	_, err = z.begin(2, 10*mib)
	z.putsOff(err)
	z.now = z.now.Add(conversionPatience - 1)
	_, err = z.begin(2, 10*mib)
	z.putsOff(err)
	z.now = z.now.Add(1)
	_, err = z.begin(2, 10*mib)
	refused(err)
	_, err = z.begin(3, 600*mib)
	z.putsOff(err)
	z.free = 1000 * mib
	if err := z.must(z.begin(3, 1*mib)).end(); err != nil {
		t.Fatal(err)
	}
	if n := len(z.conversions.putOff); n > 0 {
		t.Errorf("%d jobs are remembered that don't wait", n)
	}
	z.free = 0
	for id := range block.JobID(10) { // those whose volumes are deleted never come back
		_, err := z.begin(100+id, mib)
		z.putsOff(err)
		z.now = z.now.Add(conversionPatience)
	}
	if n := len(z.conversions.putOff); n > 3 {
		t.Errorf("%d jobs are remembered that don't ask any more", n)
	}
}

// extents is a snapshot that has data here and there.
type extents []driver.Extent

func (extents) Size() int64                           { return 1 << 30 }
func (extents) Close() error                          { return nil }
func (extents) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (e extents) Extents(_, _ int64) iter.Seq2[driver.Extent, error] {
	return func(yield func(driver.Extent, error) bool) {
		for _, one := range e {
			if !yield(one, nil) {
				return
			}
		}
	}
}

// What a snapshot's conversion is said to need is at least what its pieces take.
func TestDataIn(t *testing.T) {
	e := extents{{Off: 0, Len: 4096}, {Off: 4096, Len: mib, Zero: true}, {Off: mib - 4096, Len: 8192},
		{Off: mib + 4096, Len: 4096}, {Off: 100 * mib, Len: mib}, {Off: 101 * mib, Len: 1}}
	for piece, want := range map[int64]int64{mib: 4 * mib, 32 * mib: 64 * mib} {
		if got, err := dataIn(e, piece); got != want || err != nil {
			t.Errorf("pieces of %d: %d, %v; want %d", piece, got, err, want)
		}
	}
	opaque := struct{ driver.Reader }{e}
	if got, err := dataIn(opaque, mib); got != 1<<30 || err != nil {
		t.Errorf("one that does not tell: %d, %v", got, err)
	}
}
