package drill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
)

// disk is a volume in memory.
type disk []byte

func (d disk) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(d).ReadAt(p, off) }
func (d disk) Size() int64                             { return int64(len(d)) }

func (d disk) put(off int, text string) disk {
	copy(d[off:], text)
	return d
}

const mib = 1 << 20

// ext puts the mark of an ext file system at a part's beginning.
func (d disk) ext(off int) disk { return d.put(off+0x438, "\x53\xef") }

// mbr gives a disk two partitions.
func mbr() disk {
	d := make(disk, 8*mib)
	d.put(510, "\x55\xaa")
	for i, from := range []uint32{2048, 8192} {
		e := d[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], from)
		binary.LittleEndian.PutUint32(e[12:], 4096)
	}
	return d
}

// gptDisk has a boot loader's partition and one of data.
func gptDisk() disk {
	d := make(disk, 8*mib)
	d.put(510, "\x55\xaa").put(512, "EFI PART")
	d[446+4] = 0xee
	binary.LittleEndian.PutUint32(d[446+12:], 1)
	binary.LittleEndian.PutUint64(d[512+72:], 2)
	binary.LittleEndian.PutUint32(d[512+80:], 128)
	binary.LittleEndian.PutUint32(d[512+84:], 128)
	for i, kind := range [][]byte{biosBoot, []byte("any other kind..")} {
		e := d[1024+128*i:]
		copy(e, kind)
		binary.LittleEndian.PutUint64(e[32:], uint64(2048*(i+1)))
		binary.LittleEndian.PutUint64(e[40:], uint64(2048*(i+2)-1))
	}
	return d
}

func TestLook(t *testing.T) {
	for want, d := range map[string]disk{
		"volume ext":                         make(disk, mib).ext(0),
		"volume xfs":                         make(disk, mib).put(0, "XFSB"),
		"volume btrfs":                       make(disk, mib).put(0x10040, "_BHRfS_M"),
		"volume luks":                        make(disk, mib).put(0, "LUKS\xba\xbe\x00\x02"),
		"volume lvm":                         make(disk, mib).put(512, "LABELONE").put(536, "LVM2 001"),
		"volume nothing":                     make(disk, mib),
		"volume ":                            make(disk, mib).put(0, "a database"),
		"partition 1 ext, partition 2 swap":  mbr().ext(2048*512).put(8192*512+0xff6, "SWAPSPACE2"),
		"partition 1 boot, partition 2 vfat": gptDisk().put(2*mib+0x52, "FAT32   "),
	} {
		parts, err := Look(d, d.Size())
		var got []string
		for _, p := range parts {
			got = append(got, p.Name+" "+p.Holds)
		}
		if text := strings.Join(got, ", "); err != nil || text != want {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	}
	long := mbr()
	binary.LittleEndian.PutUint32(long[446+12:], 1<<31)
	beyond := gptDisk()
	binary.LittleEndian.PutUint64(beyond[1024+40:], 1<<40)
	for _, d := range []disk{long, beyond} {
		if parts, err := Look(d, d.Size()); !block.Is(err, block.Corrupt) {
			t.Errorf("%+v, %v", parts, err)
		}
	}
}

// FuzzLook: no volume makes it read beyond its end, or fail but for a reason.
func FuzzLook(f *testing.F) {
	for _, d := range []disk{mbr()[:64<<10], gptDisk()[:64<<10], make(disk, 4096).ext(0), nil} {
		f.Add([]byte(d), int64(8*mib))
	}
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if size < 0 || size > 64*mib || int64(len(head)) > size {
			return
		}
		d := make(disk, size)
		copy(d, head)
		parts, err := Look(d, size)
		if err != nil && !block.Is(err, block.Corrupt) {
			t.Fatal(err)
		}
		for _, p := range parts {
			if p.Off < 0 || p.Len < 0 || p.Off+p.Len > size {
				t.Fatalf("%+v of %d bytes", p, size)
			}
		}
	})
}

// TestCheckIsNeverFalselyOK: only file systems that a tool found whole pass, and
// nothing else on the volume may be unknown.
func TestCheckIsNeverFalselyOK(t *testing.T) {
	type answer struct {
		exit int
		said string
		err  error
	}
	whole := answer{}
	for name, c := range map[string]struct {
		d      disk
		tools  map[string]answer
		passed bool
		says   string
	}{
		"whole": {make(disk, mib).ext(0),
			map[string]answer{"e2fsck": whole}, true, "The ext on the volume is whole."},
		"damaged":   {make(disk, mib).ext(0), map[string]answer{"e2fsck": {exit: 4}}, false, "ended with status 4"},
		"no tool":   {make(disk, mib).ext(0), nil, false, "e2fsck is not installed in this zone"},
		"no fs":     {make(disk, mib), nil, false, "holds no file system (nothing)"},
		"not known": {make(disk, mib).put(0, "data"), nil, false, "holds nothing that is known"},
		"encrypted": {make(disk, mib).put(0, "LUKS\xba\xbe"), nil, false, "is encrypted by its hosts"},
		"unsure": {make(disk, mib).put(0, "XFSB"), map[string]answer{"xfs_repair": {exit: 1,
			said: "ALERT: The filesystem has valuable metadata changes in a log which is being ignored"}}, false,
			"only mounting it replays its log"},
		"one of two": {mbr().ext(2048*512).put(8192*512, "LUKS\xba\xbe"),
			map[string]answer{"e2fsck": whole}, false, "look into it"},
		"both": {mbr().ext(2048 * 512).ext(8192 * 512),
			map[string]answer{"e2fsck": whole}, true, "partition 2 is whole"},
		"swap beside": {mbr().ext(2048*512).put(8192*512+0xff6, "SWAPSPACE2"),
			map[string]answer{"e2fsck": whole}, true, "(swap)"},
		"beyond": {mbr()[:4*mib], nil, false, "ends beyond the volume"},
	} {
		var asked []string
		checker := Checker{Most: 4 * mib, Run: func(_ context.Context, command []string) (int, string, error) {
			a, ok := c.tools[command[0]]
			if !ok {
				return -1, "", block.Errorf(block.NotFound, "not there")
			}
			asked = append(asked, command[0])
			text, err := os.ReadFile(command[len(command)-1])
			if err != nil || int64(len(text)) > c.d.Size() || !bytes.Contains(c.d, text[:4096]) {
				t.Errorf("%s: the copy is not what the volume has: %v", name, err)
			}
			return a.exit, a.said, a.err
		}}
		dir := t.TempDir()
		got, err := checker.Check(t.Context(), c.d, dir)
		if err != nil || got.Passed != c.passed || !strings.Contains(got.Text, c.says) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left are %v, %v", name, left, err)
		}
	}
	big := Checker{Most: 4096, Run: func(context.Context, []string) (int, string, error) { return 0, "", nil }}
	got, err := big.Check(t.Context(), make(disk, mib).ext(0), t.TempDir())
	if err != nil || got.Passed || !strings.Contains(got.Text, "has more data than the 4096 bytes") {
		t.Errorf("%+v, %v", got, err)
	}
	broken := Checker{
		Most: mib,
		Run:  func(context.Context, []string) (int, string, error) { return -1, "", errors.New("?") },
	}
	if got, err := broken.Check(t.Context(), make(disk, mib).ext(0), t.TempDir()); err == nil || got.Passed {
		t.Errorf("%+v, %v", got, err)
	}
}
