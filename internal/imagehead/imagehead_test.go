package imagehead_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"kvol/internal/block"
	"kvol/internal/imagehead"
)

// made is the head of an image that qemu-img makes.
func made(t *testing.T, format string, options ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
			t.Fatal("qemu-img is not installed")
		}
		t.Skip("SKIPPED: QEMU-IMG IS NOT INSTALLED")
	}
	args := append(append([]string{"create", "-q", "-f", format}, options...), path, "1M")
	if out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, out)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text[:min(len(text), imagehead.Size)]
}

// TestCheck: what qemu-img makes is known by its head, under its own name only, and
// what names other files is refused.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	names := map[string]string{"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc",
		"ploop": "parallels"}
	for format, qemu := range names {
		head := made(t, qemu)
		for claimed := range names {
			err := imagehead.Check(head, claimed)
			if claimed == "vhd" && format != "vhd" { // of which not all have a mark
				continue
			}
			if (err == nil) != (claimed == format) {
				t.Errorf("a %s that is said to be %s: %v", format, claimed, err)
			}
		}
		if err := imagehead.Check(head, "raw"); !block.Is(err, block.Invalid) {
			t.Errorf("a %s that is said to be raw: %v", format, err)
		}
	}
	good := made(t, "vmdk", "-o", "subformat=streamOptimized")
	if err := imagehead.Check(good, "vmdk"); err != nil {
		t.Error(err)
	}
	hollow := bytes.Clone(good)
	copy(hollow[12:20], make([]byte, 8))
	for name, c := range map[string]struct {
		format string
		head   []byte
	}{
		"backing file":     {"qcow2", made(t, "qcow2", "-F", "raw", "-b", other)},
		"old backing file": {"qcow2", made(t, "qcow2", "-o", "compat=0.10", "-F", "raw", "-b", other)},
		"data file":        {"qcow2", made(t, "qcow2", "-o", "data_file="+filepath.Join(dir, "data"))},
		"flat":             {"vmdk", made(t, "vmdk", "-o", "subformat=monolithicFlat")},
		"two files":        {"vmdk", made(t, "vmdk", "-o", "subformat=twoGbMaxExtentSparse")},
		"of a descriptor":  {"vmdk", hollow},
		"short":            {"qcow2", []byte("QFI\xfb\x00\x00\x00\x03")},
		"shorter":          {"vmdk", []byte("KDMV")},
		"nothing":          {"qcow2", nil},
		"unknown":          {"docker", []byte("x")},
		"qed":              {"qed", append([]byte("QED\x00"), make([]byte, 508)...)},
	} {
		if err := imagehead.Check(c.head, c.format); !block.Is(err, block.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, format := range []string{"raw", "iso", "ami", "vhd"} {
		if err := imagehead.Check(make([]byte, 100), format); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// FuzzCheck: no head is too short or too strange to be looked at, and whatever
// passes as qcow2 or vmdk names no other file.
func FuzzCheck(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"), "qcow2")
	f.Add([]byte("KDMV\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "vmdk")
	f.Add(make([]byte, 600), "raw")
	f.Fuzz(func(t *testing.T, head []byte, format string) {
		err := imagehead.Check(head, format)
		if err != nil && !block.Is(err, block.Invalid) {
			t.Fatal(err)
		}
		if err == nil && format == "qcow2" && !bytes.Equal(head[8:20], make([]byte, 12)) {
			t.Errorf("%x has a backing file", head)
		}
		if err == nil && format == "qcow2" && binary.BigEndian.Uint32(head[4:]) >= 3 && head[79]&4 != 0 {
			t.Errorf("%x has a data file", head)
		}
		if err == nil && format == "vmdk" && bytes.Equal(head[12:20], make([]byte, 8)) {
			t.Errorf("%x is told by a descriptor", head)
		}
	})
}
