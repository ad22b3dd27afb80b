package logstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// tracer writes down what is done to files, in order, reading left out.
type tracer struct {
	mu    sync.Mutex // guards all below
	lines []string
	// once leaves out what follows in the index once its manifest was synced:
	// Pebble tidies up in the background.
	once    bool
	noIndex bool // leaves it out altogether
}

var numbered = regexp.MustCompile(`[0-9]{6}`)

// note adds a line. Files of the index lose their numbers, and how Pebble cuts
// its writes to one up is left out.
func (t *tracer) note(e vfs.Event) {
	name := strings.TrimPrefix(e.Name, "s/")
	line := string(e.Op) + " " + name
	switch {
	case e.Op == vfs.OpRead || e.Op == vfs.OpOpen:
		return
	case strings.HasPrefix(name, "index/") && e.Op == vfs.OpRemove:
		return // obsolete files go in the background
	case strings.HasPrefix(name, "index") && t.noIndex:
		return
	case strings.HasPrefix(name, "index/"):
		line = numbered.ReplaceAllString(line, "N")
	case e.Op == vfs.OpWrite:
		line += fmt.Sprintf(" %d bytes at %d", e.N, e.Off)
	case e.Op == vfs.OpRename:
		line += " to " + strings.TrimPrefix(e.To, "s/")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.once && strings.HasPrefix(name, "index") && slices.Contains(t.lines, "sync index/MANIFEST-N") {
		return
	}
	if n := len(t.lines); n > 0 && t.lines[n-1] == line && strings.HasPrefix(line, "write index/") {
		return
	}
	t.lines = append(t.lines, line)
}

func (t *tracer) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.lines
	t.lines = nil
	return out
}

// traced is a store whose requests are traced one by one. Nothing goes on in
// the background: it has segments enough and gets none back.
type traced struct {
	*Store
	t      *testing.T
	mem    *vfs.Mem
	tracer tracer
	out    strings.Builder
}

func (s *traced) options() Options {
	o := crashOptions(vfs.Watched{FS: s.mem, Note: s.tracer.note}, nil)
	o.indexEvery = 1 << 30
	return o
}

// does plays a request and writes its trace down.
func (s *traced) does(what string, f func() error) {
	s.t.Helper()
	s.tracer.take()
	must(s.t, f())
	fmt.Fprintf(&s.out, "%s\n", what)
	lines := s.tracer.take()
	if len(lines) == 0 {
		lines = []string{"nothing"}
	}
	for _, line := range lines {
		fmt.Fprintf(&s.out, "    %s\n", line)
	}
}

// golden compares what was traced with a file.
func (s *traced) golden(name string) {
	s.t.Helper()
	file := filepath.Join("testdata", "trace-"+name+".txt")
	if *update {
		must(s.t, os.WriteFile(file, []byte(s.out.String()), 0o600))
	}
	want, err := os.ReadFile(file)
	must(s.t, err)
	if got := s.out.String(); got != string(want) {
		s.t.Errorf("%s differs; with -update it becomes\n%s", file, got)
	}
}

// openTraced makes a store with one volume that has the segments it needs.
func openTraced(t *testing.T) *traced {
	s := &traced{t: t, mem: vfs.NewMem(1<<30, nil)}
	var err error
	s.Store, err = Open(context.Background(), s.options())
	must(t, err)
	must(t, s.pool.wait(readyTarget))
	s.reclaiming.Lock()
	s.rest()
	t.Cleanup(func() {
		s.reclaiming.Unlock()
		endChecked(t, s.Store)
	})
	s.pool.mu.Lock()
	s.pool.max = 1 // the pool can't grow any more
	s.pool.mu.Unlock()
	return s
}

// rest returns once no sync in the background is under way or asked for.
func (s *traced) rest() {
	stacks := make([]byte, 1<<20)
	waits := regexp.MustCompile(`\[select[^\n]*\]:\n[^\n]*syncInBackground`)
	for len(s.log.kick) > 0 || !waits.Match(stacks[:runtime.Stack(stacks, true)]) {
		runtime.Gosched()
	}
}

// TestTraceOfRequests shows what each request does to files, in what order.
// Reviewing a change of testdata/trace-requests.txt is reviewing the order of
// writes and syncs.
func TestTraceOfRequests(t *testing.T) {
	ctx := context.Background()
	s := openTraced(t)
	rng := rand.New(rand.NewPCG(1, 1))
	s.does("create a volume", func() error { return s.CreateVolume(ctx, "v", crashSize) })
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	write := func(first, n int64) func() error {
		return func() error { _, err := d.WriteAt(randomBytes(rng, int(n)*blockSize), first*blockSize); return err }
	}
	s.does("write a block", write(1, 1))
	s.does("flush", d.Flush)
	s.does("flush again", d.Flush)
	s.does("write three blocks over a leaf's end", write(leafBlocks-1, 3))
	s.does("write part of a block", func() error { _, err := d.WriteAt([]byte("part"), 100); return err })
	s.does("zero ten blocks", func() error { return d.Zero(0, 10*blockSize) })
	s.does("flush", d.Flush)
	s.does("snapshot", func() error { return s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "s"}) })
	s.does("first write after a snapshot", write(1, 1))
	s.does("clone", func() error {
		return s.CloneSnapshot(ctx, "c", driver.SnapshotRef{Volume: "v", Name: "s"}, crashSize)
	})
	s.does("snapshot of two volumes", func() error {
		return s.CreateSnapshots(ctx, []driver.SnapshotRef{{Volume: "v", Name: "g"}, {Volume: "c", Name: "g"}})
	})
	s.does("extend", func() error { return s.ExtendVolume(ctx, "c", crashSize+blockSize) })
	must(t, d.Close())
	s.does("rewind", func() error { return s.Revert(ctx, driver.SnapshotRef{Volume: "v", Name: "s"}) })
	s.does("delete a snapshot", func() error {
		return s.DeleteSnapshot(ctx, driver.SnapshotRef{Volume: "c", Name: "g"})
	})
	s.does("delete a volume", func() error { return s.DeleteVolume(ctx, "c") })
	s.golden("requests")
}

// TestTraceOfSegments shows how the log goes on in another segment, how the
// index is written, and how a segment is used again.
func TestTraceOfSegments(t *testing.T) {
	ctx := context.Background()
	s := openTraced(t)
	must(t, s.CreateVolume(ctx, "v", crashSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	p := randomBytes(rand.New(rand.NewPCG(1, 1)), blockSize)
	for s.log.now().off+headerSize+4+blockSize <= crashSegment {
		_, err := d.WriteAt(p, 0)
		must(t, err)
	}
	s.does("write into the next segment, flush", func() error {
		if _, err := d.WriteAt(p, 0); err != nil {
			return err
		}
		return d.Flush()
	})
	s.rest()
	_, err = d.WriteAt(p, 0)
	must(t, err)
	s.tracer.once = true
	s.does("write the index", s.flushIndex)
	s.tracer.noIndex = true // Pebble may compact what was just written
	s.does("use a dead segment again", func() error { return s.pool.recycle(s.pool.ids()[0]) })
	must(t, d.Close())
	s.golden("segments")
}

// TestTraceOfOpening shows what opening does: a new store, one that was closed,
// and one whose process was killed. What Pebble does in the index is left out.
func TestTraceOfOpening(t *testing.T) {
	ctx := context.Background()
	s := &traced{t: t, mem: vfs.NewMem(1<<30, nil), tracer: tracer{noIndex: true}}
	segments := int64(1)
	open := func() error {
		o := s.options()
		o.MaxBytes = segments * crashSegment
		var err error
		s.Store, err = Open(ctx, o)
		return err
	}
	s.does("open a new store that can have one segment", open)
	s.does("close", func() error { return s.Close() })
	segments = 60
	must(t, open())
	must(t, s.pool.wait(readyTarget))
	must(t, s.CreateVolume(ctx, "v", crashSize))
	s.rest()
	must(t, s.Close())
	s.does("open a store that was closed and has segments", open)
	must(t, s.ExtendVolume(ctx, "v", crashSize+blockSize))
	killed := s.mem.Kill()
	s.release()
	s.mem = killed
	s.does("open after a kill", open)
	s.golden("opening")
	endChecked(t, s.Store)
}
