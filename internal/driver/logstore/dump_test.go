package logstore

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/vfs"
)

// TestDump looks into a store of known content: every record of the log and
// every kind of key of the index is told; nothing is changed; a damaged block
// is pointed at; a store that is open is refused with who has it.
func TestDump(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewMem(1<<30, nil)
	o := crashOptions(mem, nil)
	o.Holder = `zone north, as store "main"; ask it at http://n`
	s := openTest(t, o)
	must(t, s.CreateVolume(ctx, "v", crashSize))
	d, err := s.OpenVolume(ctx, "v")
	must(t, err)
	block1 := bytes.Repeat([]byte("kvol"), blockSize/4)
	at := s.log.now()
	_, err = d.WriteAt(block1, 0)
	must(t, err)
	must(t, s.CreateSnapshot(ctx, driver.SnapshotRef{Volume: "v", Name: "monday"}))
	must(t, d.Zero(0, blockSize))
	must(t, d.Close())
	must(t, s.CloneSnapshot(ctx, "w", driver.SnapshotRef{Volume: "v", Name: "monday"}, crashSize))
	must(t, s.ExtendVolume(ctx, "w", 2*crashSize))
	must(t, s.CreateVolume(ctx, "x", blockSize))
	must(t, s.DeleteVolume(ctx, "x"))
	must(t, s.Revert(ctx, driver.SnapshotRef{Volume: "v", Name: "monday"}))

	for name, open := range map[string]func() error{
		"dump": func() error { return Dump(ctx, &bytes.Buffer{}, "s", DumpOptions{FS: mem}) },
		"open": func() error { _, err := Open(ctx, crashOptions(mem, nil)); return err },
	} {
		if err := open(); !block.Is(err, block.Conflict) || !strings.Contains(err.Error(), "ask it at http://n") {
			t.Errorf("%s of a store that is open: %v", name, err)
		}
	}
	must(t, s.Close())
	if err := Dump(ctx, &bytes.Buffer{}, "elsewhere", DumpOptions{FS: mem}); !block.Is(err, block.NotFound) {
		t.Errorf("no store: %v", err)
	}
	dump := func(o DumpOptions) string {
		t.Helper()
		var w bytes.Buffer
		o.FS = mem
		must(t, Dump(ctx, &w, "s", o))
		return w.String()
	}
	text := dump(DumpOptions{Records: true, Index: true})
	for _, want := range []string{
		`superblock format \d+ counter \d+ generation 1 id [0-9a-f]{16} segment size 65536 clean true`,
		`segment 00000001 generation 1 first sequence 1 after 00000000 at 0`,
		fmt.Sprintf(`%8d sequence 3 generation 1 write volume 2 branch 2 blocks 0\+1 body 4 data 4096`, at.off),
		`generation 1 open `, `create `, ` snapshot `, ` zero `, ` clone `, ` extend `, ` delete `, ` rewind `,
		`\d+ records end at \d+`,
		fmt.Sprintf(`leaf 0 branch 2 epoch \d+: 0\+1 00000001@%d`, at.off+headerSize+4),
		`changed branch 2 epoch \d+ leaf 0`, `branch 2 parent 0 bound 0 volume 2 epoch \d+`,
		`volume \d+ id "v" size \d+ branch \d+`, `volume \d+ id "w" size \d+ branch \d+`,
		`snapshot of \d+ key [0-9a-f]+ name "monday" branch 2 size \d+`, `position segment 00000001 at \d+ sequence \d+`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s is not told:\n%s", want, text)
		}
	}
	if strings.Contains(text, "NOT MATCH") || strings.Contains(text, "unknown") || strings.Contains(text, `"x"`) {
		t.Errorf("of a whole store:\n%s", text)
	}
	if short := dump(DumpOptions{}); strings.Contains(short, "sequence 3 ") || strings.Contains(short, "leaf") {
		t.Errorf("told without being asked:\n%s", short)
	}
	if again := dump(DumpOptions{Records: true, Index: true}); again != text {
		t.Error("looking changed something")
	}
	f, err := mem.Open(segmentName("s", at.segment))
	must(t, err)
	_, err = f.WriteAt([]byte{'K'}, at.off+headerSize+4)
	must(t, err)
	must(t, f.Close())
	if n := strings.Count(dump(DumpOptions{Records: true}), "DATA DOES NOT MATCH ITS CHECKSUMS"); n != 1 {
		t.Errorf("%d records are said to be damaged, and one is", n)
	}
}
