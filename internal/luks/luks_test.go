package luks

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/driver/mem"
)

const passphrase = "6b766f6c206f70656e73206974"

// encrypted is a driver all of whose devices and snapshots are encrypted.
type encrypted struct {
	driver.Driver
	cipher *Cipher
	guard  sync.RWMutex
}

func (e *encrypted) OpenVolume(ctx context.Context, id block.VolumeID) (driver.Device, error) {
	d, err := e.Driver.OpenVolume(ctx, id)
	if err != nil {
		return nil, err
	}
	return NewDevice(d, e.cipher, &e.guard), nil
}

func (e *encrypted) OpenSnapshot(ctx context.Context, ref driver.SnapshotRef) (driver.Reader, error) {
	r, err := e.Driver.OpenSnapshot(ctx, ref)
	if err != nil {
		return nil, err
	}
	return NewDevice(still{r}, e.cipher, &e.guard), nil
}

// still is an open snapshot as a device.
type still struct{ driver.Reader }

func (still) WriteAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }
func (still) Zero(int64, int64) error            { return io.ErrClosedPipe }
func (still) Flush() error                       { return nil }

// TestDevice wants an encrypted device to be a device like any other.
func TestDevice(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) driver.Driver {
		c, err := NewCipher(bytes.Repeat([]byte{1, 2, 3, 4}, 16))
		if err != nil {
			t.Fatal(err)
		}
		return &encrypted{Driver: mem.New(mem.Options{}), cipher: c}
	})
}

// tool finds a program that the set-up of the tests installs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if _, err := os.Stat("/usr/sbin/" + name); err == nil {
		return "/usr/sbin/" + name
	}
	if os.Getenv("KVOL_REQUIRE_TOOLS") != "" {
		t.Fatalf("%s is missing; test/setup.sh installs it", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func run(t *testing.T, input, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), tool(t, name), args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

const payload = 1 << 20

// container writes a container whose payload an encrypted device wrote, with a
// pattern over 64 KiB of 0xa5 at 4096.
func container(t *testing.T, keyBytes int) (path string, master []byte) {
	t.Helper()
	master = bytes.Repeat([]byte{0x17, 0x42, 0x99, 0x03}, keyBytes/4)
	copy(master, "the two halves of an XTS key differ")
	header, err := Format(master, []byte(passphrase), "5f1c5d8a-6a5e-4c5e-9a2e-0123456789ab")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCipher(master)
	if err != nil {
		t.Fatal(err)
	}
	store := mem.New(mem.Options{})
	if err := store.CreateVolume(t.Context(), "v", payload); err != nil {
		t.Fatal(err)
	}
	raw, err := store.OpenVolume(t.Context(), "v")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	d := NewDevice(raw, c, new(sync.RWMutex))
	for at := int64(4096); at < 4096+65536; at += 4096 / 8 * 3 { // not whole sectors
		n := min(4096/8*3, 4096+65536-at)
		if _, err := d.WriteAt(bytes.Repeat([]byte{0xa5}, int(n)), at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.WriteAt(make([]byte, payload-4096-65536), 4096+65536); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt(make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
	cipher := make([]byte, payload)
	if _, err := raw.ReadAt(cipher, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(cipher, bytes.Repeat([]byte{0xa5}, 16)) || bytes.Contains(cipher, make([]byte, 16)) {
		t.Error("the device below has clear bytes")
	}
	path = filepath.Join(t.TempDir(), "container")
	if err := os.WriteFile(path, append(header, cipher...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, master
}

// secret are the arguments by which qemu's tools open a container.
func secret(t *testing.T, path string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(passphrase), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--object", "secret,id=s,file=" + file, "--image-opts",
		"driver=luks,key-secret=s,file.driver=file,file.filename=" + path}
}

// TestOthersReadOurs has qemu and cryptsetup open a container that was made
// here.
func TestOthersReadOurs(t *testing.T) {
	for _, keyBytes := range []int{32, 64} {
		t.Run(fmt.Sprint(keyBytes*8), func(t *testing.T) {
			path, _ := container(t, keyBytes)
			info := run(t, "", "qemu-img", "info", path)
			if !strings.Contains(info, "file format: luks") || !strings.Contains(info, "cipher mode: xts") ||
				!strings.Contains(info, "virtual size: 1 MiB") {
				t.Errorf("qemu-img info says\n%s", info)
			}
			out := run(t, "", "qemu-io", append(secret(t, path), "-c", "read -P 0xa5 4096 64k",
				"-c", "read -P 0 0 4096", "-c", "read -P 0 69632 978944")...)
			if strings.Contains(out, "verification failed") || strings.Count(out, "\nread ")+1 < 3 {
				t.Errorf("qemu-io says\n%s", out)
			}
			dump := run(t, "", "cryptsetup", "luksDump", path)
			if !strings.Contains(dump, "xts-plain64") ||
				!strings.Contains(dump, fmt.Sprintf("MK bits:       \t%d", keyBytes*8)) {
				t.Errorf("cryptsetup luksDump says\n%s", dump)
			}
			run(t, passphrase, "cryptsetup", "open", "--test-passphrase", "--key-file", "-", path)
			wrong := exec.CommandContext(
				t.Context(),
				tool(t, "cryptsetup"),
				"open",
				"--test-passphrase",
				"--key-file",
				"-",
				path,
			)
			wrong.Stdin = strings.NewReader("wrong")
			if err := wrong.Run(); err == nil {
				t.Error("cryptsetup opens it with a wrong passphrase")
			}
		})
	}
}

// TestWeReadOthers opens containers that qemu-img and cryptsetup made.
func TestWeReadOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "theirs")
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte(passphrase), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs(t, file, path)
	run(t, "", "qemu-io", append(secret(t, path), "-c", "write -P 0x3c 8192 64k")...)
	content := opened(t, path)
	if !bytes.Equal(content[8192:8192+65536], bytes.Repeat([]byte{0x3c}, 65536)) {
		t.Error("what qemu wrote is not what is read")
	}
	for _, hash := range []string{"sha1", "sha512"} {
		path := filepath.Join(t.TempDir(), hash)
		if err := os.WriteFile(path, make([]byte, 4<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, passphrase, "cryptsetup", "luksFormat", "--type", "luks1", "--cipher", "aes-xts-plain64", "--key-size", "512",
			"--hash", hash, "--pbkdf-force-iterations", "1500", "--batch-mode", "--key-file", "-", path)
		opened(t, path)
	}
}

// theirs makes a container with qemu-img. It measures how quick the processor
// is by the CPU time of a thread, which some kernels count in ticks: where one
// measurement falls within a tick it gives up, and asks to be asked again.
func theirs(t *testing.T, passphraseFile, path string) {
	t.Helper()
	const noMeasure = "Unable to get accurate CPU usage"
	var out []byte
	var err error
	for range 100 {
		out, err = exec.CommandContext(t.Context(), tool(t, "qemu-img"), "create", "-q", "-f", "luks",
			"--object", "secret,id=s,file="+passphraseFile, "-o", "key-secret=s,iter-time=10", path, "1M").CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte(noMeasure)) {
			break
		}
	}
	if err != nil {
		t.Fatalf("qemu-img create: %v\n%s", err, out)
	}
}

// opened is a container's clear payload.
func opened(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := make([]byte, phdrSize)
	if _, err := f.ReadAt(first, 0); err != nil {
		t.Fatal(err)
	}
	h, err := Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Unlock(t.Context(), f, []byte("wrong")); !block.Is(err, block.Forbidden) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	master, err := h.Unlock(t.Context(), f, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCipher(master)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(c.Decrypting(io.NewSectionReader(f, h.PayloadOffset, 1<<40)))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// TestRoundTrip opens what was made here, also without other people's tools.
func TestRoundTrip(t *testing.T) {
	path, master := container(t, 64)
	content := opened(t, path)
	if len(content) != payload || !bytes.Equal(content[4096:4096+65536], bytes.Repeat([]byte{0xa5}, 65536)) {
		t.Error("what was written is not what is read")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(all, master[:16]) {
		t.Error("the container tells its key")
	}
}

func FuzzParse(f *testing.F) {
	whole, err := Format(make([]byte, 32), []byte(passphrase), "u")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:phdrSize])
	f.Add([]byte("LUKS\xba\xbe\x00\x02"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := Parse(p)
		if err != nil {
			if !block.Is(err, block.Corrupt) && !block.Is(err, block.Unsupported) {
				t.Errorf("an error of kind %v", block.KindOf(err))
			}
			return
		}
		again, err := Parse(h.marshal())
		if err != nil || again.PayloadOffset != h.PayloadOffset || again.slots[0] != h.slots[0] {
			t.Errorf("%+v becomes %+v, %v", h, again, err)
		}
		for i := range h.slots { // so that it ends soon
			h.slots[i].iterations = min(h.slots[i].iterations, 2)
		}
		h.digestIter = min(h.digestIter, 2)
		if _, err := h.Unlock(t.Context(), bytes.NewReader(p), []byte(passphrase)); err == nil && p[phdrSize-1] != 0 {
			t.Log("opened")
		}
	})
}

func BenchmarkDevice(b *testing.B) {
	c, err := NewCipher(bytes.Repeat([]byte{1, 2, 3, 4}, 16))
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 64<<10)
	p[0] = 1
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		c.encrypt(p, p, 7)
	}
}
