package churn_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ext4 is a file system in an image, as a disk's points see it.
type ext4 struct {
	*disk
	path string
}

func tools(t *testing.T, names ...string) {
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

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// newExt4 makes a file system that has what lies in a directory, with room for as
// much again.
func newExt4(t *testing.T, size int64, dir string) *ext4 {
	t.Helper()
	x := &ext4{disk: &disk{t: t}, path: filepath.Join(t.TempDir(), "ext4")}
	if err := os.WriteFile(x.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(x.path, size); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-b", "4096", "-d", dir, x.path)
	image := x.image()
	x.disk = newDisk(t, int(size), nil)
	for off := 0; off < len(image); off += blockSize {
		if p := image[off : off+blockSize]; len(bytes.Trim(p, "\x00")) > 0 {
			x.write(off, p)
		}
	}
	x.disk.n = 0 // the first copy
	x.point(0)
	return x
}

func (x *ext4) image() []byte {
	x.t.Helper()
	p, err := os.ReadFile(x.path)
	if err != nil {
		x.t.Fatal(err)
	}
	return p
}

// sync makes a point of what changed in the image.
func (x *ext4) sync(after time.Duration) {
	x.t.Helper()
	now := x.image()
	for off := 0; off < len(now); off += blockSize {
		if p := now[off : off+blockSize]; !bytes.Equal(p, x.bytes[off:off+blockSize]) {
			x.write(off, p)
		}
	}
	x.point(after)
}

// do has debugfs change the file system, as a kernel does for its programs.
func (x *ext4) do(commands ...string) {
	x.t.Helper()
	script := filepath.Join(x.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		x.t.Fatal(err)
	}
	if said := run(x.t, "debugfs", "-w", "-f", script, x.path); strings.Contains(said, "No space left") {
		x.t.Fatal(said)
	}
}

// encrypt overwrites a file of the file system with what openssl makes of it, as
// ransomware does: its blocks stay where they are.
func (x *ext4) encrypt(name string) (length int) {
	x.t.Helper()
	dir := x.t.TempDir()
	plain, hidden := filepath.Join(dir, "plain"), filepath.Join(dir, "hidden")
	run(x.t, "debugfs", "-R", "dump "+name+" "+plain, x.path)
	run(
		x.t,
		"openssl",
		"enc",
		"-aes-256-ctr",
		"-K",
		strings.Repeat("5a", 32),
		"-iv",
		strings.Repeat("01", 16),
		"-in",
		plain,
		"-out",
		hidden,
	)
	p, err := os.ReadFile(hidden)
	if err != nil {
		x.t.Fatal(err)
	}
	said := run(x.t, "debugfs", "-R", "blocks "+name, x.path)
	_, said, _ = strings.Cut(said, "\n") // its version
	f, err := os.OpenFile(x.path, os.O_WRONLY, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	at := strings.Fields(said)
	if len(at) != (len(p)+blockSize-1)/blockSize {
		x.t.Fatalf("%s has %d bytes in %d blocks", name, len(p), len(at))
	}
	for i, number := range at {
		n, err := strconv.ParseInt(number, 10, 64)
		if err == nil {
			_, err = f.WriteAt(p[i*blockSize:min((i+1)*blockSize, len(p))], n*blockSize)
		}
		if err != nil {
			x.t.Fatal(err)
		}
	}
	return len(p)
}

// sources are the texts of this repository, so often that they come to a length.
func sources(t *testing.T, length int) (out []byte) {
	t.Helper()
	for len(out) < length {
		err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(path) != ".go" {
				return err
			}
			p, err := os.ReadFile(path)
			out = append(out, p...)
			return err
		})
		if err != nil || len(out) == 0 {
			t.Fatalf("%d bytes: %v", len(out), err)
		}
	}
	return out[:length]
}

// home is a directory with texts in files of a MiB, 24 in all.
func home(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	all := sources(t, 24*mib)
	for i := range 24 {
		names = append(names, fmt.Sprintf("/text%02d", i))
		if err := os.WriteFile(filepath.Join(dir, names[i]), all[i*mib:(i+1)*mib], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, names
}

// TestEncryptedFilesAreNoticed: files of an ext4 are encrypted in their places,
// all at once or a few a point; it is noticed before half of them are gone, and
// the last clean point is the one before the first of them.
func TestEncryptedFilesAreNoticed(t *testing.T) {
	tools(t, "mkfs.ext4", "debugfs", "openssl")
	dir, names := home(t)
	for _, each := range []int{len(names), 4} {
		x := newExt4(t, 64*mib, dir)
		edited := filepath.Join(t.TempDir(), "edited")
		for n := range 4 { // people work
			if err := os.WriteFile(edited, sources(t, 200<<10+n*4096), 0o600); err != nil {
				t.Fatal(err)
			}
			x.do("rm /edited", "write "+edited+" /edited")
			x.sync(20 * time.Second)
		}
		x.calm("work")
		clean, done := x.n, 0
		for some := range slices.Chunk(names, each) {
			for _, name := range some {
				x.encrypt(name)
				done++
			}
			x.sync(20 * time.Second)
			if x.since != 0 {
				break
			}
		}
		if x.since == 0 || string(x.clean) != fmt.Sprint(clean) {
			t.Errorf("%d files a point: suspect since point %d of %d, clean up to %q where that is %d", each, x.since, x.n,
				x.clean, clean)
		}
		if each < len(names) && done > len(names)/2 {
			t.Errorf("%d files a point: noticed after %d of %d files", each, done, len(names))
		}
	}
}

// TestAWorkingFileSystemIsCalm: packages are unpacked, logs are written and
// compressed, and what they leave free is used again; none of it is an alarm.
func TestAWorkingFileSystemIsCalm(t *testing.T) {
	tools(t, "mkfs.ext4", "debugfs")
	dir, _ := home(t)
	x := newExt4(t, 64*mib, dir)
	scratch := t.TempDir()
	file := func(name string, p []byte) string {
		t.Helper()
		path := filepath.Join(scratch, name)
		if err := os.WriteFile(path, p, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	programs, err := os.ReadFile(os.Args[0]) // what a linker makes
	if err != nil {
		t.Fatal(err)
	}
	programs = programs[:min(len(programs), 4*mib)]
	for night := range 4 {
		// A package comes as an archive, is unpacked, and the archive goes.
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(programs) // into memory
		_ = z.Close()
		x.do("write " + file("package", packed.Bytes()) + " /package")
		x.sync(30 * time.Second)
		x.do("rm /program", "write "+file("program", programs)+" /program", "rm /package")
		x.sync(30 * time.Second)
		// A log grows, and is compressed into what others left.
		log := bytes.Clone(sources(t, 8*mib))
		for i := 0; i+64 < len(log); i += 4096 {
			copy(log[i:], fmt.Sprintf("night %d line %d ", night, i))
		}
		x.do("write " + file("log", log) + " /log")
		x.sync(30 * time.Second)
		packed.Reset()
		z.Reset(&packed)
		_, _ = z.Write(log) // into memory
		_ = z.Close()
		x.do("rm /log", fmt.Sprintf("rm /log.%d.gz", night-2),
			fmt.Sprintf("write %s /log.%d.gz", file("log.gz", packed.Bytes()), night))
		x.sync(30 * time.Second)
		x.calm(fmt.Sprintf("night %d", night))
	}
}
