package nbd_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

// both plays a test on a unix socket and on TCP; url is the export's.
func both(t *testing.T, size int64, test func(t *testing.T, s *shelf, url func(export string) string)) {
	t.Run("unix", func(t *testing.T) {
		s := newShelf(t, size)
		path, _ := serve(t, nbd.Config{Exports: s})
		test(t, s, func(export string) string { return "nbd+unix:///" + export + "?socket=" + path })
	})
	t.Run("tcp", func(t *testing.T) {
		s := newShelf(t, size)
		address, _ := serveTCP(t, nbd.Config{Exports: s})
		test(t, s, func(export string) string { return "nbd://" + address + "/" + export })
	})
}

func TestNbdinfo(t *testing.T) {
	both(t, testSize, func(t *testing.T, s *shelf, url func(string) string) {
		var info struct {
			Structured bool `json:"structured"`
			Exports    []struct {
				Name         string   `json:"export-name"`
				Description  string   `json:"description"`
				Size         int64    `json:"export-size"`
				Contexts     []string `json:"contexts"`
				ReadOnly     bool     `json:"is_read_only"`
				MultiConn    bool     `json:"can_multi_conn"`
				Flush        bool     `json:"can_flush"`
				FUA          bool     `json:"can_fua"`
				Trim         bool     `json:"can_trim"`
				Zero         bool     `json:"can_zero"`
				FastZero     bool     `json:"can_fast_zero"`
				Cache        bool     `json:"can_cache"`
				DF           bool     `json:"can_df"`
				BlockMinimum int      `json:"block_size_minimum"`
				BlockMaximum int      `json:"block_size_maximum"`
			}
		}
		if err := json.Unmarshal([]byte(exporttest.Run(t, "nbdinfo", "--json", url("vol"))), &info); err != nil {
			t.Fatal(err)
		}
		e := info.Exports[0]
		if e.Size != testSize || e.ReadOnly || !e.MultiConn || !e.Flush || !e.FUA || !e.Trim || !e.Zero || !e.FastZero ||
			!e.Cache || !e.DF || e.BlockMinimum != 1 || e.BlockMaximum != 32<<20 || e.Description != "a test" ||
			len(e.Contexts) != 1 || e.Contexts[0] != "base:allocation" || !info.Structured {
			t.Errorf("nbdinfo reads %+v", info)
		}
		if _, err := exporttest.Try(t, "nbdinfo", "--can", "write", url("vol-ro")); err == nil {
			t.Error("the read-only export can be written")
		}
		if _, err := s.Device.WriteAt(exporttest.Fill(1, 1<<20), 1<<20); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(strings.Fields(exporttest.Run(t, "nbdinfo", "--map", url("vol"))), " ")
		if want := "0 1048576 3 hole,zero 1048576 1048576 0 data 2097152 6291456 3 hole,zero"; got != want {
			t.Errorf("nbdinfo --map: %s", got)
		}
		if out, err := exporttest.Try(t, "nbdinfo", url("nope")); err == nil {
			t.Errorf("an unknown export: %s", out)
		}
		if out, err := exporttest.Try(t, "nbdinfo", "--list", url("")); err == nil && strings.Contains(out, "vol") {
			t.Errorf("names are listed: %s", out)
		}
	})
}

func TestNbdcopy(t *testing.T) {
	const size = 48 << 20
	both(t, size, func(t *testing.T, s *shelf, url func(string) string) {
		content := make([]byte, size)
		copy(content[1<<20:], exporttest.Fill(1, 9<<20+513))
		copy(content[40<<20:], exporttest.Fill(2, 8<<20))
		in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
		if err := os.WriteFile(in, content, 0o600); err != nil {
			t.Fatal(err)
		}
		exporttest.Run(t, "nbdcopy", "--flush", "--connections=4", in, url("vol"))
		s.Holds(t, 0, content)
		exporttest.Run(t, "nbdcopy", "--connections=4", "--requests=32", url("vol"), out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, content) {
			t.Errorf("nbdcopy from the export differs: %v", err)
		}
		exporttest.Run(t, "nbdcopy", "--synchronous", "--no-extents", url("vol-ro"), out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, content) {
			t.Errorf("nbdcopy --synchronous differs: %v", err)
		}
		if o, err := exporttest.Try(t, "nbdcopy", in, url("vol-ro")); err == nil {
			t.Errorf("a read-only export was written: %s", o)
		}
	})
}

func TestQemuImg(t *testing.T) {
	const size = 16 << 20
	both(t, size, func(t *testing.T, s *shelf, url func(string) string) {
		if out := exporttest.Run(t, "qemu-img", "info", url("vol")); !strings.Contains(out, "16 MiB") {
			t.Errorf("qemu-img info: %s", out)
		}
		dir := t.TempDir()
		raw, qcow := filepath.Join(dir, "raw"), filepath.Join(dir, "qcow2")
		content := make([]byte, size)
		copy(content[3<<20:], exporttest.Fill(1, 2<<20+512))
		if err := os.WriteFile(raw, content, 0o600); err != nil {
			t.Fatal(err)
		}
		exporttest.Run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw, url("vol"))
		s.Holds(t, 0, content)
		exporttest.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, url("vol"))
		exporttest.Run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", url("vol-ro"), qcow)
		exporttest.Run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", qcow, url("vol"))
		exporttest.Run(t, "qemu-img", "convert", "-n", "-W", "-m", "8", "-f", "qcow2", "-O", "raw", qcow, url("vol"))
		s.Holds(t, 0, content)
		out := exporttest.Run(t, "qemu-img", "map", "--output=json", "-f", "raw", url("vol"))
		if !strings.Contains(out, `"start": 3145728`) {
			t.Errorf("qemu-img map: %s", out)
		}
		exporttest.Run(
			t,
			"qemu-img",
			"bench",
			"-f",
			"raw",
			"-w",
			"-c",
			"2000",
			"-d",
			"32",
			"--flush-interval=100",
			url("vol"),
		)
		exporttest.Run(t, "qemu-img", "bench", "-f", "raw", "-c", "2000", "-d", "32", url("vol"))
	})
}

func TestQemuIO(t *testing.T) {
	both(t, testSize, func(t *testing.T, s *shelf, url func(string) string) {
		args := []string{"-f", "raw", url("vol")}
		for _, c := range []string{
			"write -P 0x11 0 64k", "write -f -P 0x22 64k 64k", "aio_write -P 0x33 1M 3M", "aio_flush", "flush",
			"read -P 0x11 0 64k", "read -P 0x22 64k 64k", "read -P 0x33 1M 3M",
			"write -z 1M 512k", "read -P 0 1M 512k", "write -z -u 2M 512k", "read -P 0 2M 512k",
			"write -z -n -u 3M 64k", "discard 0 4k", "read -P 0 0 4k", "read -P 0x11 4k 60k", "discard 100k 1000",
			"write -P 0x44 4095 2", "read -P 0x44 4095 2",
		} {
			args = append(args, "-c", c)
		}
		if out := exporttest.Run(t, "qemu-io", args...); strings.Contains(out, "failed") || strings.Contains(out, "error") {
			t.Errorf("qemu-io: %s", out)
		}
		s.Holds(t, 1<<20+512<<10, bytes.Repeat([]byte{0x33}, 512<<10))
	})
}

func TestFioVerifies(t *testing.T) {
	const size = 64 << 20
	both(t, size, func(t *testing.T, s *shelf, url func(string) string) {
		exporttest.Run(t, "fio", "--name=v", "--ioengine=nbd", "--uri="+url("vol"), "--rw=randwrite", "--bsrange=512-128k",
			"--bs_unaligned", "--size=64M", "--io_size=48M", "--iodepth=32", "--verify=crc32c", "--fsync=64",
			"--randseed=7", "--verify_fatal=1")
		// Depth 1: fio writes what it trims without waiting for the trim.
		exporttest.Run(
			t,
			"fio",
			"--name=t",
			"--ioengine=nbd",
			"--uri="+url("vol"),
			"--rw=randtrimwrite",
			"--bs=16k",
			"--size=64M",
			"--io_size=16M",
			"--iodepth=1",
			"--verify=crc32c",
			"--trim_verify_zero=1",
			"--verify_fatal=1",
		)
	})
}

// TestNbdkitInFront lets another server be our client, with all its requests
// cut and spread by filters.
func TestNbdkitInFront(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	content := exporttest.Fill(5, testSize)
	in := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(in, content, 0o600); err != nil {
		t.Fatal(err)
	}
	exporttest.Tool(t, "nbdcopy")
	exporttest.Run(t, "nbdkit", "-U", "-", "--filter=blocksize", "nbd", "socket="+path, "export=vol", "shared=true",
		"minblock=1", "maxdata=64k", "--run", fmt.Sprintf("nbdcopy --flush %s $uri && nbdcopy $uri - | cmp %s", in, in))
	s.Holds(t, 0, content)
}

func TestToolsThroughTLS(t *testing.T) {
	a := newAuthority(t)
	s := newShelf(t, testSize)
	address, _ := serveTCP(t, nbd.Config{Exports: s, TLS: a.server(true), RequireTLS: true})
	_, port, _ := net.SplitHostPort(address)
	dir := a.directory()
	in := filepath.Join(t.TempDir(), "in")
	content := exporttest.Fill(6, testSize)
	if err := os.WriteFile(in, content, 0o600); err != nil {
		t.Fatal(err)
	}
	url := "nbds://localhost:" + port + "/vol?tls-certificates=" + dir
	if out := exporttest.Run(t, "nbdinfo", url); !strings.Contains(out, "TLS") {
		t.Errorf("nbdinfo: %s", out)
	}
	exporttest.Run(t, "nbdcopy", in, url)
	s.Holds(t, 0, content)
	if out, err := exporttest.Try(t, "nbdinfo", "nbd://"+address+"/vol"); err == nil {
		t.Errorf("the server let a client in without TLS: %s", out)
	}
	exporttest.Run(t, "qemu-img", "compare", "--object", "tls-creds-x509,id=tls0,endpoint=client,dir="+dir, "--image-opts",
		"driver=raw,file.driver=file,file.filename="+in,
		"driver=raw,file.driver=nbd,file.host=localhost,file.port="+port+",file.export=vol,file.tls-creds=tls0")
}
