package logstore

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// mistakes are the ways in which the store is broken on purpose, and what
// finds each: a plot whose power cuts do, or a test of its own.
var mistakes = []struct {
	name string
	hook mutation
	wrap func(vfs.FS) vfs.FS
	plot plot
	find func(t *testing.T, hooks *testHooks) bool
}{
	{name: "flush without a sync", hook: skipLogSync, plot: mixedPlot},
	{name: "sync of the newest segment only", hook: skipOldSegmentSync, plot: mixedPlot},
	{name: "index ahead of the log", hook: skipSyncBeforeIndex, plot: mixedPlot},
	{name: "torn data replayed", hook: skipDataCheck, plot: mixedPlot},
	{name: "segment's name not synced", hook: skipSegmentDirSync, plot: mixedPlot},
	// Without the padding, after which an old record seldom follows a new one.
	{name: "any sequence replayed", hook: acceptAnySequence | skipPadding, plot: fullPlot},
	{name: "writes go into the snapshot", hook: skipEpoch, plot: mixedPlot},
	{name: "segment reused before the index knew", hook: recycleEarly, plot: fullPlot},
	{name: "segment reused with a block in it", hook: forgetMove, plot: fullPlot},
	{name: "moved blocks hide newer ones", hook: moveBlindly, find: oldBytesBack},
	{name: "stale notes after sweeping", hook: trustOldNotes, plot: fullPlot},
	{name: "absorbed blocks not compacted", hook: forgetHeirs, find: absorbedCompacted},
	{name: "old versions absorbed first", hook: moveOldFirst, find: oldVersionsFirst},
	{name: "views from before an absorption", hook: trustOldViews, find: absorbedBetween},
	{name: "superblock not synced", wrap: losing(superName, ""), plot: mixedPlot},
	{name: "index's names not synced", wrap: losing("index", ""), plot: mixedPlot},
	{name: "index's tables not synced", wrap: losing("", ".sst"), plot: mixedPlot},
	{name: "index's manifest not synced", wrap: losing("MANIFEST", ""), plot: mixedPlot},
	{name: "replayed records not synced", hook: skipReplaySync, plot: mixedPlot},
	{name: "older generation replayed", hook: skipGeneration | skipPadding, find: oldRecordBack},
	{name: "pages written in part", hook: skipPadding, find: partialPages},
	{name: "checksum not looked at", hook: skipReadCheck, find: servesDamage},
	{name: "writes together with one sequence", hook: sameSequence, plot: togetherPlot},
	{name: "index ahead of writes together", hook: splitGroup, plot: togetherPlot},
	{name: "leaf joined without its batch", hook: forgetTouched, find: losesOfBatch},
	{name: "swept what a mark sees", hook: dropSeen, plot: thinPlot},
	{name: "swept older over newer", hook: joinOldOver, plot: thinPlot},
	{name: "swept past a mark", hook: sweepPastMark, plot: thinPlot},
	{name: "gap noted as swept too early", hook: noteSweptEarly, find: gapForgotten},
}

// Each mistake is met within some ten histories; mutationHistories without it
// are a test that finds nothing. mutationTime only ends a store that hangs.
const (
	mutationHistories = 400
	mutationTime      = 8 * time.Minute
)

// TestMutations breaks the store on purpose, one way after another, and sees
// each found within so many histories. Found is what a whole store passes.
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes with the race detector, which TestPowerCut has the same code for")
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			hooks := &testHooks{wrap: m.wrap}
			if m.find != nil {
				if m.find(t, hooks) {
					t.Error("found in a store that is whole")
				}
				hooks.on.Store(uint32(m.hook))
				if !m.find(t, hooks) {
					t.Error("not found")
				}
				return
			}
			hooks.on.Store(uint32(m.hook))
			m.plot.every = 3
			deadline := time.Now().Add(mutationTime)
			for seed := uint64(100); seed < 100+mutationHistories && time.Now().Before(deadline); seed++ {
				err := soon(deadline, func() error { _, err := runHistory(seed, m.plot, hooks); return err })
				if err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}

// lossyFS says that it has synced what it has not.
type lossyFS struct {
	vfs.FS
	loses func(name string) bool
}

// losing makes a file system that does not sync files or directories whose
// names begin and end so.
func losing(prefix, suffix string) func(vfs.FS) vfs.FS {
	return func(fsys vfs.FS) vfs.FS {
		return lossyFS{fsys, func(name string) bool {
			base := path.Base(name)
			return strings.HasPrefix(base, prefix) && strings.HasSuffix(base, suffix)
		}}
	}
}

func (l lossyFS) SyncDir(dir string) error {
	if l.loses(dir) {
		return nil
	}
	return l.FS.SyncDir(dir)
}

func (l lossyFS) Create(name string) (vfs.File, error) { return l.file(name)(l.FS.Create(name)) }
func (l lossyFS) Open(name string) (vfs.File, error)   { return l.file(name)(l.FS.Open(name)) }

func (l lossyFS) file(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil || !l.loses(name) {
			return f, err
		}
		return lossyFile{f}, nil
	}
}

type lossyFile struct{ vfs.File }

func (lossyFile) Sync() error { return nil }

// soon runs f and gives up on it at a deadline: a broken store may never end.
func soon(deadline time.Time, f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("panic: %v", p)
			}
		}()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Until(deadline)):
		return nil // not found, as the caller sees by the time
	}
}

// servesDamage damages blocks of data on the disk in turn and reports whether
// one was served.
func servesDamage(t *testing.T, hooks *testHooks) bool {
	served := 0
	for _, bit := range []int64{0, 5000, 4164 * 3} {
		if damagedReads(t, hooks, bit) {
			served++
		}
	}
	return served > 0
}

// oldBytesBack writes a block twice and then notes its first bytes as moved, as
// compaction does when a write comes in between. It reports whether they came
// back.
func oldBytesBack(t *testing.T, hooks *testHooks) bool {
	ctx := context.Background()
	s, err := Open(ctx, crashOptions(vfs.NewMem(1<<30, nil), hooks))
	must(t, err)
	defer endChecked(t, s)
	must(t, s.CreateVolume(ctx, "v", 64*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	at, p := s.log.now(), [2][]byte{bytes.Repeat([]byte{1}, blockSize), bytes.Repeat([]byte{2}, blockSize)}
	for i := range p {
		_, err := d.WriteAt(p[i], 0)
		must(t, err)
	}
	v := s.volumes["v"]
	from := relocation{epoch: v.branch.epoch, segment: at.segment, off: uint32(at.off + headerSize + 4)}
	body := make([]byte, relocateFixed)
	from.put(body)
	body = le.AppendUint32(body, blockCRC(p[0]))
	s.mu.Lock()
	err = s.commit(&header{op: opRelocate, volume: v.num, branch: v.branch.num, count: 1}, body, p[0], forMoving)
	s.mu.Unlock()
	must(t, err)
	got := make([]byte, blockSize)
	_, err = d.ReadAt(got, 0)
	must(t, err)
	return bytes.Equal(got, p[0])
}

// damagedReads reports whether reading served a block that was damaged.
func damagedReads(t *testing.T, hooks *testHooks, at int64) bool {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	s, err := Open(ctx, crashOptions(mem, hooks))
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	must(t, s.CreateVolume(ctx, "v", 64*blockSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	start := s.log.now()
	want := make([]byte, 4*blockSize)
	for i := range want {
		want[i] = byte(i/blockSize + 1)
	}
	for i := int64(0); i < 4; i++ {
		_, err := d.WriteAt(want[i*blockSize:(i+1)*blockSize], i*blockSize)
		must(t, err)
	}
	f, err := mem.Open(segmentName("s", start.segment))
	must(t, err)
	_, err = f.WriteAt([]byte{0xee}, start.off+headerSize+4+at)
	must(t, err)
	got := make([]byte, len(want))
	_, err = d.ReadAt(got, 0)
	if err == nil {
		return true
	}
	if !block.Is(err, block.Corrupt) {
		t.Errorf("got %v, want Corrupt", err)
	}
	if !block.Is(s.Check(ctx), block.Corrupt) {
		t.Error("Check found nothing")
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
