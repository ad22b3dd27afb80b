package logstore

import (
	"path"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/vfs"
)

// TestLostSuperblock takes the superblock from a store, or its bytes, and then
// the log or the index too: no new store is made over what is left, and the
// old one is there again with its superblock.
func TestLostSuperblock(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	s, d := filledStore(t, mem, 10)
	must(t, d.Close())
	must(t, s.Close())
	super := make([]byte, 2*superSize)
	_, err := openFile(t, mem, "s/superblock").ReadAt(super, 0)
	must(t, err)
	for name, lose := range map[string]func(*vfs.Mem){
		"removed": func(m *vfs.Mem) { must(t, m.Remove("s/superblock")) },
		"zeroed": func(m *vfs.Mem) {
			_, err := openFile(t, m, "s/superblock").WriteAt(make([]byte, 2*superSize), 0)
			must(t, err)
		},
	} {
		for _, without := range []string{"", segmentDir, "index"} {
			img := mem.Kill()
			lose(img)
			removeAll(t, img, path.Join("s", without))
			for range 2 {
				if _, err := Open(t.Context(), replayOptions(img)); !block.Is(err, block.Corrupt) {
					t.Fatalf("%s, without %q: %v, want Corrupt", name, without, err)
				}
			}
			if _, err := Mend(t.Context(), replayOptions(img)); !block.Is(err, block.Corrupt) {
				t.Errorf("%s, without %q: mending: %v, want Corrupt", name, without, err)
			}
			if without != "" {
				continue
			}
			f, err := img.Create("s/superblock")
			must(t, err)
			_, err = f.WriteAt(super, 0)
			must(t, err)
			s, err := Open(t.Context(), replayOptions(img))
			must(t, err)
			hasNumbered(t, s, 10)
			endChecked(t, s)
		}
	}
}

// TestSuperblockNeverWritten opens what a power cut leaves that comes before
// the first superblock is whole, with segments that have nothing in them.
func TestSuperblockNeverWritten(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	for _, name := range []string{"s/superblock", segmentName("s", 1)} {
		f, err := mem.Create(name)
		must(t, err)
		_, err = f.WriteAt(make([]byte, crashSegment), 0)
		must(t, err)
	}
	s, err := Open(t.Context(), replayOptions(mem))
	must(t, err)
	must(t, s.CreateVolume(t.Context(), "v", crashSize))
	endChecked(t, s)
}

// TestFirstSuperblockOfTheKilled kills the process that makes a store while its
// first superblock is in memory only, and cuts the power while the next one
// goes on: what is there then is a store, or nothing.
func TestFirstSuperblockOfTheKilled(t *testing.T) {
	mem := vfs.NewMem(1<<30, nil)
	var img *vfs.Mem
	mem.Hook = func(op vfs.Op, name string) error {
		if op == vfs.OpSync && path.Base(name) == superName && img == nil {
			img = mem.Kill()
		}
		return nil
	}
	s, err := Open(t.Context(), replayOptions(mem))
	must(t, err)
	endChecked(t, s)
	cuts := powerCutsOf(img)
	s, err = Open(t.Context(), replayOptions(img))
	must(t, err)
	for i, cut := range cuts() {
		again, err := Open(t.Context(), replayOptions(cut))
		if err != nil {
			t.Fatalf("power cut %d: %v", i, err)
		}
		endChecked(t, again)
	}
	endChecked(t, s)
}

func openFile(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	return f
}

// removeAll removes the files of a directory that is not the store's own.
func removeAll(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	if !strings.Contains(dir, "/") {
		return
	}
	names, err := fsys.List(dir)
	must(t, err)
	for _, name := range names {
		must(t, fsys.Remove(path.Join(dir, name)))
	}
}
