package luks

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/mem"
)

// vessel is a container with a header and an empty payload, on a device.
func vessel(t *testing.T) (stored driver.Device, c *Cipher) {
	t.Helper()
	master := bytes.Repeat([]byte{0x17, 0x42, 0x99, 0x03}, 16)
	copy(master, "the two halves of an XTS key differ")
	header, err := Format(master, []byte(passphrase), "5f1c5d8a-6a5e-4c5e-9a2e-0123456789ab")
	if err != nil {
		t.Fatal(err)
	}
	if c, err = NewCipher(master); err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	if err := store.CreateVolume(t.Context(), "v", HeaderSize+payload); err != nil {
		t.Fatal(err)
	}
	if stored, err = store.OpenVolume(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stored.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := stored.WriteAt(header, 0); err != nil {
		t.Fatal(err)
	}
	return stored, c
}

// TestContainer writes all of a payload, with zeros, which qemu reads as that.
func TestContainer(t *testing.T) {
	stored, cipher := vessel(t)
	d := NewContainer(stored, cipher)
	if d.Size() != payload {
		t.Fatalf("the payload has %d bytes", d.Size())
	}
	if err := d.Zero(0, payload); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt(bytes.Repeat([]byte{0xa5}, 65536), 4096); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range [][2]int64{{1, 512}, {0, 511}, {payload, 512}, {-512, 512}} {
		if _, err := d.WriteAt(make([]byte, wrong[1]), wrong[0]); !block.Is(err, block.Invalid) {
			t.Errorf("%d bytes at %d: %v", wrong[1], wrong[0], err)
		}
	}
	p := make([]byte, 3000) // not whole sectors
	if _, err := d.ReadAt(p, 4000); err != nil || !bytes.Equal(p, append(make([]byte, 96),
		bytes.Repeat([]byte{0xa5}, 2904)...)) {
		t.Errorf("it reads %x, %v", p[:128], err)
	}
	all := make([]byte, stored.Size())
	if _, err := stored.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(all[HeaderSize:], make([]byte, 32)) {
		t.Error("zeros are not encrypted")
	}
	path := filepath.Join(t.TempDir(), "container")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, "", "qemu-io", append(secret(t, path), "-c", "read -P 0xa5 4096 64k", "-c", "read -P 0 0 4096",
		"-c", "read -P 0 69632 978944")...)
	if strings.Contains(out, "failed") {
		t.Errorf("qemu-io says\n%s", out)
	}
	run(t, passphrase, "cryptsetup", "open", "--test-passphrase", "--key-file", "-", path)
}

// TestPayload reads what qemu wrote to a container of its own, whose payload
// begins where it likes; what was never written reads as zeros.
func TestPayload(t *testing.T) {
	path, file := filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(passphrase), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs(t, file, path)
	run(t, "", "qemu-io", append(secret(t, path), "-c", "write -P 0x3c 8192 64k")...)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Parse(content)
	if err != nil {
		t.Fatal(err)
	}
	master, err := h.Unlock(t.Context(), bytes.NewReader(content), []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCipher(master)
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	size := (int64(len(content)) + driver.BlockSize - 1) / driver.BlockSize * driver.BlockSize
	if err := store.CreateVolume(t.Context(), "v", size); err != nil {
		t.Fatal(err)
	}
	stored, err := store.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	defer stored.Close()
	if _, err := stored.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	r := NewPayload(stored, c, h.PayloadOffset)
	if r.Size() != size-h.PayloadOffset {
		t.Errorf("the payload has %d bytes", r.Size())
	}
	p := make([]byte, 65536+200)
	want := make([]byte, len(p))
	copy(want[100:], bytes.Repeat([]byte{0x3c}, 65536))
	if _, err := r.ReadAt(p, 8092); err != nil || !bytes.Equal(p, want) {
		t.Errorf("it reads %x, %v", p[:128], err)
	}
	if _, err := r.ReadAt(p, r.Size()); !block.Is(err, block.Invalid) {
		t.Errorf("beyond its end: %v", err)
	}
	at, data := int64(0), int64(0)
	for e, err := range r.(driver.ExtentReader).Extents(0, r.Size()) {
		if err != nil || e.Off != at {
			t.Fatalf("an extent at %d, %v; the one before ends at %d", e.Off, err, at)
		}
		if at = e.End(); !e.Zero {
			data += e.Len
		}
	}
	if at != r.Size() || data < 65536 {
		t.Errorf("extents up to %d with %d bytes of data", at, data)
	}
}
