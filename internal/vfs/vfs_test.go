package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"slices"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// each runs a test on the system's file system and on the one in memory.
func each(t *testing.T, f func(t *testing.T, fsys FS, dir string)) {
	t.Run("system", func(t *testing.T) { f(t, System{}, t.TempDir()) })
	t.Run("memory", func(t *testing.T) { f(t, NewMem(1<<20, nil), "d") })
	t.Run("watched", func(t *testing.T) { f(t, Watched{NewMem(1<<20, nil), func(Event) {}}, "d") })
}

func write(t *testing.T, f File, text string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(text), off)
	must(t, err)
}

func make1(t *testing.T, fsys FS, name, text string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	write(t, f, text, 0)
	return f
}

// content of a file, or "-" where there is none.
func content(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	p := make([]byte, size)
	if n, err := f.ReadAt(p, 0); int64(n) != size || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d: %v", n, size, err)
	}
	return string(p)
}

func TestFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		a, b := path.Join(dir, "sub", "a"), path.Join(dir, "sub", "b")
		must(t, fsys.MkdirAll(path.Join(dir, "sub")))
		must(t, fsys.MkdirAll(path.Join(dir, "sub"))) // again
		f := make1(t, fsys, a, "hello")
		write(t, f, "xy", 8)
		must(t, f.Sync())
		if got := content(t, fsys, a); got != "hello\x00\x00\x00xy" {
			t.Errorf("got %q", got)
		}
		p := make([]byte, 4)
		if n, err := f.ReadAt(p, 8); n != 2 || err != io.EOF {
			t.Errorf("a read over the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(p, 100); n != 0 || err != io.EOF {
			t.Errorf("a read beyond the end: %d, %v", n, err)
		}
		must(t, fsys.SyncDir(path.Join(dir, "sub")))
		must(t, make1(t, fsys, b, "other").Close())
		must(t, fsys.Rename(a, b))
		if got := content(t, fsys, a) + content(t, fsys, b); got != "-hello\x00\x00\x00xy" {
			t.Errorf("after a rename over a file: %q", got)
		}
		must(t, fsys.Remove(b))
		if n, err := f.ReadAt(p, 0); n != 4 || err != nil {
			t.Errorf("a removed file that is open: %d, %v", n, err)
		}
		must(t, f.Close())
		must(t, make1(t, fsys, a, "long text").Close())
		must(t, make1(t, fsys, a, "short").Close())
		if got := content(t, fsys, a); got != "short" {
			t.Errorf("created again: %q", got)
		}
		names, err := fsys.List(path.Join(dir, "sub"))
		must(t, err)
		if !slices.Equal(names, []string{"a"}) {
			t.Errorf("list %q", names)
		}
	})
}

func TestMissingFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		name := path.Join(dir, "none")
		_, err := fsys.Open(name)
		for what, err := range map[string]error{"open": err, "remove": fsys.Remove(name),
			"rename": fsys.Rename(name, name+"2")} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

func TestLocks(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		must(t, fsys.MkdirAll(dir))
		name := path.Join(dir, "lock")
		l, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
			t.Errorf("a second lock: %v", err)
		}
		other, err := fsys.Lock(name + "2")
		must(t, err)
		must(t, other.Close())
		must(t, l.Close())
		l, err = fsys.Lock(name)
		must(t, err)
		must(t, l.Close())
	})
}

// TestLockEndsWithItsProcess: a process that is killed leaves no lock behind.
func TestLockEndsWithItsProcess(t *testing.T) {
	if name := os.Getenv("VFS_TEST_LOCK"); name != "" {
		_, err := System{}.Lock(name)
		must(t, err)
		os.Stdout.WriteString("locked\n")
		select {}
	}
	name := path.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithItsProcess$")
	cmd.Env = append(os.Environ(), "VFS_TEST_LOCK="+name)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	said := make([]byte, 7)
	_, readErr := io.ReadFull(out, said)
	_, lockErr := System{}.Lock(name)
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	must(t, readErr)
	if !errors.Is(lockErr, ErrLocked) {
		t.Errorf("while the process lives: %v", lockErr)
	}
	l, err := System{}.Lock(name)
	must(t, err)
	must(t, l.Close())
}

func TestSpace(t *testing.T) {
	m := NewMem(1000, nil)
	f := make1(t, m, "d/a", string(make([]byte, 600)))
	if s, err := m.Space("d"); err != nil || s != (Space{1000, 400}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := f.WriteAt(make([]byte, 401), 600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("over the capacity: %v", err)
	}
	write(t, f, string(make([]byte, 400)), 600)
	write(t, f, string(make([]byte, 1000)), 0) // in place
	must(t, m.Remove("d/a"))
	if s, _ := m.Space("d"); s.Free != 1000 {
		t.Errorf("after the removal: %+v", s)
	}
	if s, err := (System{}).Space(t.TempDir()); err != nil || s.Total <= 0 || s.Free <= 0 || s.Free > s.Total {
		t.Errorf("%+v, %v", s, err)
	}
}

// images are n things that the disk may hold after a power cut.
func images(m *Mem, n int) (out []*Mem) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range n {
		out = append(out, m.Crash(rng))
	}
	return out
}

// TestSyncedBytesStay: what was synced under a synced name is in each image.
func TestSyncedBytesStay(t *testing.T) {
	m := NewMem(1<<20, rand.New(rand.NewPCG(3, 4)))
	f := make1(t, m, "d/a", "one")
	must(t, f.Sync())
	must(t, m.SyncDir("d"))
	write(t, f, "two", sectorSize)
	for _, i := range images(m, 50) {
		if got := content(t, i, "d/a"); got[:3] != "one" {
			t.Fatalf("synced bytes became %q", got)
		}
	}
	if got := content(t, m, "d/a"); got != "one"+string(make([]byte, sectorSize-3))+"two" {
		t.Errorf("the file system itself changed: %q", got)
	}
}

// TestAnySubsetOfSectors: of what was not synced, every subset is met, whole
// sectors only.
func TestAnySubsetOfSectors(t *testing.T) {
	m := NewMem(1<<20, nil)
	old := bytes.Repeat([]byte{'o'}, 3*sectorSize)
	f := make1(t, m, "d/a", string(old))
	must(t, f.Sync())
	must(t, m.SyncDir("d"))
	write(t, f, string(bytes.Repeat([]byte{'n'}, 3*sectorSize)), 0)
	seen := map[string]bool{}
	for _, i := range images(m, 200) {
		got, what := content(t, i, "d/a"), ""
		for s := range 3 {
			sector := got[s*sectorSize : (s+1)*sectorSize]
			if sector != string(bytes.Repeat([]byte(sector[:1]), sectorSize)) {
				t.Fatalf("sector %d is torn", s)
			}
			what += sector[:1]
		}
		seen[what] = true
	}
	if len(seen) != 8 {
		t.Errorf("met %d of 8 subsets: %v", len(seen), seen)
	}
}

// TestNamesNeedTheDirectorysSync: names come and go without it in any mix.
func TestNamesNeedTheDirectorysSync(t *testing.T) {
	m := NewMem(1<<20, nil)
	must(t, make1(t, m, "d/kept", "k").Sync())
	must(t, make1(t, m, "d/gone", "g").Sync())
	must(t, m.SyncDir("d"))
	must(t, make1(t, m, "d/new", "n").Sync())
	must(t, m.Remove("d/gone"))
	must(t, m.Rename("d/kept", "d/moved"))
	seen := map[string]bool{}
	for _, i := range images(m, 200) {
		kept, moved := content(t, i, "d/kept"), content(t, i, "d/moved")
		if kept+moved != "k-" && kept+moved != "-k" {
			t.Fatalf("a rename left %q and %q", kept, moved)
		}
		seen[kept+content(t, i, "d/new")+content(t, i, "d/gone")] = true
	}
	if len(seen) != 8 {
		t.Errorf("met %d of 8 outcomes: %v", len(seen), seen)
	}
	must(t, m.SyncDir("other"))
	if n := len(m.pending); n != 3 {
		t.Errorf("another directory's sync left %d of 3 pending", n)
	}
	must(t, m.SyncDir("d"))
	for _, i := range images(m, 20) {
		got := content(t, i, "d/kept") + content(t, i, "d/moved") + content(t, i, "d/new") + content(t, i, "d/gone")
		if got != "-kn-" {
			t.Fatalf("after the sync: %q", got)
		}
	}
}

// TestKillKeepsEverything: the end of the process is no power cut.
func TestKillKeepsEverything(t *testing.T) {
	m := NewMem(1<<20, nil)
	_, err := m.Lock("d/lock")
	must(t, err)
	make1(t, m, "d/a", "unsynced")
	k := m.Kill()
	if got := content(t, k, "d/a"); got != "unsynced" {
		t.Errorf("got %q", got)
	}
	_, err = k.Lock("d/lock") // ended with the process
	must(t, err)
	write(t, mustOpen(t, k, "d/a"), "X", 0)
	if got := content(t, m, "d/a"); got != "unsynced" {
		t.Errorf("the images share bytes: %q", got)
	}
}

// TestPowerCutAfterKill: what a killed process did not sync is still not on
// the disk, names and bytes, until somebody syncs it.
func TestPowerCutAfterKill(t *testing.T) {
	m := NewMem(1<<20, nil)
	make1(t, m, "d/a", "unsynced")
	k := m.Kill()
	seen := map[string]bool{}
	for _, i := range images(k, 50) {
		seen[content(t, i, "d/a")] = true
	}
	if !seen["-"] || !seen[""] || !seen["unsynced"] || len(seen) != 3 {
		t.Errorf("a power cut after a kill left %v", seen)
	}
	must(t, mustOpen(t, k, "d/a").Sync())
	must(t, k.SyncDir("d"))
	for _, i := range images(k, 20) {
		if got := content(t, i, "d/a"); got != "unsynced" {
			t.Fatalf("after the sync: %q", got)
		}
	}
}

// TestFailedSync: what could not be synced is read as if it were written, also
// after a kill, and is gone after a power cut, though a later sync succeeds;
// until it is written again.
func TestFailedSync(t *testing.T) {
	m := NewMem(1<<20, nil)
	f := make1(t, m, "d/a", "old")
	must(t, f.Sync())
	must(t, m.SyncDir("d"))
	_, err := f.WriteAt([]byte("new"), 0)
	must(t, err)
	m.Hook = func(op Op, _ string) error {
		if op == OpSync {
			return syscall.EIO
		}
		return nil
	}
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("sync: %v", err)
	}
	k := m.Kill()
	f = mustOpen(t, k, "d/a")
	must(t, f.Sync())
	if got := content(t, k, "d/a"); got != "new" {
		t.Errorf("it reads %q", got)
	}
	for _, i := range images(k, 20) {
		if got := content(t, i, "d/a"); got != "old" {
			t.Fatalf("after a power cut: %q", got)
		}
	}
	_, err = f.WriteAt([]byte("new"), 0)
	must(t, err)
	must(t, f.Sync())
	for _, i := range images(k, 20) {
		if got := content(t, i, "d/a"); got != "new" {
			t.Fatalf("written again, after a power cut: %q", got)
		}
	}
}

func mustOpen(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	return f
}

// TestFaultsAreTheResult: an error of the hook is what the caller gets, and
// the operation is not done.
func TestFaultsAreTheResult(t *testing.T) {
	m := NewMem(1<<20, nil)
	f := make1(t, m, "d/a", "old")
	must(t, f.Sync())
	must(t, m.SyncDir("d"))
	fail, asked := true, map[Op]int{}
	m.Hook = func(op Op, _ string) error {
		asked[op]++
		if fail {
			return syscall.EIO
		}
		return nil
	}
	_, createErr := m.Create("d/b")
	_, openErr := m.Open("d/a")
	_, writeErr := f.WriteAt([]byte("new"), 0)
	_, readErr := f.ReadAt(make([]byte, 1), 0)
	for op, err := range map[Op]error{OpCreate: createErr, OpOpen: openErr, OpWrite: writeErr, OpRead: readErr,
		OpSync: f.Sync(), OpSyncDir: m.SyncDir("d"), OpRename: m.Rename("d/a", "d/c"), OpRemove: m.Remove("d/a")} {
		if !errors.Is(err, syscall.EIO) || asked[op] != 1 {
			t.Errorf("%s: %v, asked %d times", op, err, asked[op])
		}
	}
	fail = false
	if got := content(t, m, "d/a") + content(t, m, "d/b") + content(t, m, "d/c"); got != "old--" {
		t.Errorf("what failed was done: %q", got)
	}
}

// TestWatched: it tells what was done, in order, and not what failed.
func TestWatched(t *testing.T) {
	var got []Event
	mem := NewMem(10, nil)
	w := Watched{mem, func(e Event) { got = append(got, e) }}
	f := make1(t, w, "d/a", "four")
	must(t, f.Sync())
	if _, err := f.WriteAt(make([]byte, 20), 0); err == nil {
		t.Error("a full file system took it")
	}
	must(t, w.SyncDir("d"))
	must(t, w.Rename("d/a", "d/b"))
	_, err := mustOpen(t, w, "d/b").ReadAt(make([]byte, 2), 1)
	must(t, err)
	must(t, w.Remove("d/b"))
	want := []Event{{Op: OpCreate, Name: "d/a"}, {Op: OpWrite, Name: "d/a", N: 4}, {Op: OpSync, Name: "d/a"},
		{Op: OpSyncDir, Name: "d"}, {Op: OpRename, Name: "d/a", To: "d/b"}, {Op: OpOpen, Name: "d/b"},
		{Op: OpRead, Name: "d/b", Off: 1, N: 2}, {Op: OpRemove, Name: "d/b"}}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if w.Unwrap() != FS(mem) {
		t.Error("Unwrap")
	}
}
