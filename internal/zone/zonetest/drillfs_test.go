package zonetest_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/zone"
	"kvol/internal/zone/zonetest"
)

// needTools skips a test without some programs, which are required where all are.
func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		} else if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal(err)
		} else {
			t.Skip(err)
		}
	}
}

func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// fileSystem makes an image of a file system with some files, and reads it.
func fileSystem(t *testing.T, kind string) (path string, image []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), kind)
	size := map[string]int64{"ext4": 64 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}[kind]
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "ext4":
		runTool(t, "mkfs.ext4", "-q", "-F", "-d", "/etc/default", path)
	case "xfs":
		runTool(t, "mkfs.xfs", "-q", "-f", path)
	case "btrfs":
		runTool(t, "mkfs.btrfs", "-q", "-f", "--rootdir", "/etc/default", path)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, image
}

// damage spoils what a file system needs.
func damage(t *testing.T, kind, path string, image []byte) []byte {
	t.Helper()
	bad := bytes.Clone(image)
	switch kind {
	case "ext4":
		runTool(t, "debugfs", "-w", "-R", "clri <2>", path)
		bad, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bad
	case "xfs": // the header of the inodes of its first group
		if string(bad[1024:1028]) != "XAGI" {
			t.Fatal("there is no AGI where one should be")
		}
		bad[1024+19] ^= 1
	case "btrfs": // all nodes of its trees, which have its id, but not the superblocks
		id, n := bad[0x10020:0x10030], 0
		for off := 0; off+16<<10 <= len(bad); off += 16 << 10 {
			if bytes.Equal(bad[off+0x20:off+0x30], id) && string(bad[off+0x40:off+0x48]) != "_BHRfS_M" {
				bad[off+0x100] ^= 1
				n++
			}
		}
		if n == 0 {
			t.Fatal("no node was found")
		}
	}
	return bad
}

// partitioned puts an image into the second partition of a disk.
func partitioned(image []byte) []byte {
	const from = 2 << 20
	disk := make([]byte, from+len(image))
	copy(disk[510:], "\x55\xaa")
	for i, part := range [][2]uint32{{2048, 2048}, {4096, uint32(len(image) / 512)}} {
		e := disk[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], part[0])
		binary.LittleEndian.PutUint32(e[12:], part[1])
	}
	copy(disk[1<<20+0xff6:], "SWAPSPACE2")
	copy(disk[from:], image)
	return disk
}

// hold writes an image to a new volume of Alice's.
func hold(t *testing.T, c *zonetest.Cloud, image []byte) (volume string) {
	t.Helper()
	v := makeVolume(t, c.Session(source, zonetest.Alice), client.NewVolume{Name: "fs", Size: 1})
	put(t, c, v.ID, image)
	return v.ID
}

// put writes what an image has but zeros.
func put(t *testing.T, c *zonetest.Cloud, volume string, image []byte) {
	t.Helper()
	const piece = 64 << 10
	conn := c.Open(source, volume)
	defer conn.Close()
	for off := 0; off < len(image); off += piece {
		if p := image[off:min(off+piece, len(image))]; len(bytes.Trim(p, "\x00")) > 0 {
			if _, err := conn.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// TestDrillChecksFileSystems: a drill passes on an ext4, an XFS and a btrfs that
// are whole, also in a partition, and fails on those that are damaged and on a
// volume that holds nothing to check.
func TestDrillChecksFileSystems(t *testing.T) {
	t.Parallel()
	needTools(t, "mkfs.ext4", "e2fsck", "debugfs", "mkfs.xfs", "xfs_repair", "mkfs.btrfs", "btrfs", "nbdfuse", "unshare")
	c := zonetest.New(t)
	there := c.Session(to, zonetest.Alice)
	var whole, all []string
	want := map[string]string{}
	for _, kind := range []string{"ext4", "xfs", "btrfs"} {
		path, image := fileSystem(t, kind)
		good := hold(t, c, image)
		whole, want[good] = append(whole, good), "on the volume is whole."
		if kind == "ext4" {
			good = hold(t, c, partitioned(image))
			whole, want[good] = append(whole, good), "on the partition 2 is whole."
		}
		bad := hold(t, c, damage(t, kind, path, image))
		all, want[bad] = append(all, bad), "on the volume is damaged: "
	}
	empty := zonetest.NewJourney(t, c, source, 8, 1).Volume
	want[empty] = "holds no file system"
	all = append(append(all, empty), whole...)
	for _, volume := range all {
		replicated(t, c, volume)
	}
	before := stored(t, c, to)
	for verdict, volumes := range map[string][]string{"pass": whole, "fail": all} {
		r := drilled(t, there, begun(t, there, client.Drill{Scope: client.RecoveryScope{Volumes: volumes},
			Probes: []client.DrillProbe{{Kind: "fsck"}, {Kind: "verify"}}}))
		if r.Verdict != verdict || len(r.Volumes) != len(volumes) || r.CopiedAgain != 0 {
			t.Errorf("want %s of %d volumes: %+v", verdict, len(volumes), r)
		}
		for _, v := range r.Volumes {
			if len(v.Probes) != 2 || !strings.Contains(v.Probes[0].Text, want[v.Source]) || v.Probes[1].Status != "succeeded" {
				t.Errorf("want %q: %+v", want[v.Source], v.Probes)
			}
		}
	}
	wantClean(t, c, before)
}

// shows reports whether this machine lets FUSE show a file in name spaces of its
// own.
func shows(t *testing.T) bool {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil && exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").Run() == nil
}

// TestDrillOfAnEncryptedVolume: its clone is verified as it lies, checked and
// served to a command as hosts see it, and no file of the zone ever tells what is
// on it: the check works on the clone, or is refused.
func TestDrillOfAnEncryptedVolume(t *testing.T) {
	t.Parallel()
	needTools(t, "mkfs.ext4", "e2fsck", "nbdfuse", "unshare", "nbdcopy")
	secret := pattern("nobody may read this ")
	files := t.TempDir()
	if err := os.WriteFile(filepath.Join(files, "plan"), bytes.Repeat(secret, 16), 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "ext4")
	runTool(t, "mkfs.ext4", "-q", "-F", "-d", files, image, "16M")
	text, err := os.ReadFile(image)
	if err != nil || !bytes.Contains(text, secret) {
		t.Fatalf("the image does not have its file: %v", err)
	}
	c := zonetest.NewEmbeddedWith(t, func(cfg *zone.Config) {
		cfg.DR.Probes = []zone.ProbeConfig{{HookConfig: zone.HookConfig{Name: "look", Command: []string{"/bin/sh", "-c",
			`nbdcopy "$KVOL_NBD_URI" - | head -c 16M | grep -a -o "nobody may read this" | wc -l
find "$TMPDIR" -type f -size +0`}},
			Tenants: true}}
	})
	v := encryptedVolume(t, c, secret)
	put(t, c, v.ID, text)
	replicated(t, c, v.ID)
	key := keyOf(t, c.Session(source, zonetest.Alice), v.ID)
	s := c.Session(to, zonetest.Alice)
	probes := []client.DrillProbe{{Kind: "verify"}, {Kind: "fsck"}, {Kind: "command", Name: "look"}}
	r := drilled(t, s, begun(t, s, client.Drill{Scope: client.RecoveryScope{Volumes: []string{v.ID}}, Probes: probes}))
	verdict, says := "pass", "The ext on the volume is whole."
	if !shows(t) {
		verdict, says = "fail", "is encrypted where it lies"
	}
	if r.Verdict != verdict || len(r.Volumes) != 1 || r.Volumes[0].Probes[0].Status != "succeeded" ||
		!strings.Contains(r.Volumes[0].Probes[1].Text, says) || r.CopiedAgain != 0 || r.ClonesLeft != 0 {
		t.Errorf("want %s, %q: %+v", verdict, says, r)
	}
	if len(r.Probes) != 1 || strings.TrimSpace(r.Probes[0].Output) != "3120" { // that often, and no files beside
		t.Errorf("the command sees %+v", r.Probes)
	}
	for _, name := range zonetest.Names {
		wantHushed(t, filepath.Dir(c.StoreDir(name)), []byte("nobody may read this"), key)
	}
}

// TestFsckThatIsKilledIsCleanedUp: while the tool works on a clone, the zone ends.
// The next start does it again, and neither files nor mounts are left.
func TestFsckThatIsKilledIsCleanedUp(t *testing.T) {
	needTools(t, "mkfs.ext4", "unshare", "nbdfuse")
	dir := t.TempDir()
	begun, goOn := filepath.Join(dir, "begun"), filepath.Join(dir, "go on")
	checker := "#!/bin/sh\ncase $* in *journal_only*) exit 0;; esac\necho $$ >> '" + begun + "'\n" +
		"until [ -e '" + goOn + "' ]; do sleep 0.05; done\nfor last; do :; done; head -c 1082 \"$last\" | tail -c 2 >> '" +
		begun + "'\n"
	if err := os.WriteFile(filepath.Join(dir, "e2fsck"), []byte(checker), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	_, image := fileSystem(t, "ext4")
	c := zonetest.New(t)
	volume := hold(t, c, image)
	replicated(t, c, volume)
	before := stored(t, c, to)
	s := c.Session(to, zonetest.Alice)
	op, err := s.StartDrill(
		t.Context(),
		client.Drill{Scope: client.RecoveryScope{Volumes: []string{volume}}, WatchSeconds: 1,
			Probes: []client.DrillProbe{{Kind: "fsck"}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
			text, err := os.ReadFile(begun)
			return err == nil && bytes.Count(text, []byte("\n")) >= n, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	lines(1)
	c.Kill(to)
	c.Start(to)
	lines(2)
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := drilled(t, c.Session(to, zonetest.Alice), op.ID)
	if r.Verdict != "pass" || r.Restarts != 1 {
		t.Errorf("%+v", r)
	}
	text, err := os.ReadFile(begun)
	if err != nil || !bytes.HasSuffix(text, []byte("\x53\xef")) {
		t.Errorf("the tool did not see the file system: %q, %v", text, err)
	}
	wantClean(t, c, before)
	left, err := filepath.Glob(filepath.Join(c.DataDir(to), "tmp", "*"))
	mounts, readErr := os.ReadFile("/proc/self/mounts")
	if err != nil || len(left) > 0 || readErr != nil || bytes.Contains(mounts, []byte(c.DataDir(to))) {
		t.Errorf("left are %v, %v, %v", left, err, readErr)
	}
}
