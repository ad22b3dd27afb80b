package nbd_test

import (
	"os/exec"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

// script runs a Python program with libnbd. It must print OK at its end.
func script(t *testing.T, program string, args ...string) {
	t.Helper()
	const python = "/usr/bin/python3" // Debian's own has Debian's modules
	exporttest.Tool(t, "nbdsh")       // says whether they are there
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", program}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "OK\n") {
		t.Errorf("%v\n%s", err, out)
	}
}

// illegal sends, without libnbd's own checks, what clients must not send, and
// expects the error that the protocol names; after each the connection works.
const illegal = `
import errno, nbd, sys
h = nbd.NBD()
h.add_meta_context("base:allocation")
if sys.argv[2] == "simple":
    h.set_request_structured_replies(False)
h.set_strict_mode(0)
h.connect_uri(sys.argv[1])
size = h.get_size()
assert h.pread(5, 0) == bytearray(5)

def refused(want, call, *args, **kw):
    try:
        call(*args, **kw)
    except nbd.Error as e:
        assert e.errnum in want, (call, args, kw, e)
    else:
        raise AssertionError((call, args, kw, "went through"))
    h.pwrite(b"alive", 100)
    assert h.pread(5, 100) == b"alive"

inv, full = [errno.EINVAL], [errno.ENOSPC]
refused(inv, h.pread, 1, size)
refused(inv, h.pread, 2, size - 1)
refused(inv, h.pread, 512, 2**62)
refused(full, h.pwrite, b"x", size)
refused(full, h.pwrite, b"xy", size - 1)
refused(full, h.pwrite, b"x" * 70000, 2**62)
refused(full, h.zero, 2, size - 1)
refused(inv, h.trim, 2, size - 1)
refused(inv, h.cache, 2, size - 1)
for flags in (1 << 5, 1 << 15, nbd.CMD_FLAG_REQ_ONE, nbd.CMD_FLAG_FAST_ZERO):
    refused(inv, h.pwrite, b"x", 0, flags=flags)
    refused(inv, h.pread, 1, 0, flags=flags)
    refused(inv, h.flush, flags=flags)
    refused(inv, h.trim, 1, 0, flags=flags)
    refused(inv, h.cache, 1, 0, flags=flags)
refused(inv, h.zero, 1, 0, flags=nbd.CMD_FLAG_DF)
h.pwrite(b"", 0), h.trim(0, 0), h.zero(0, 0), h.cache(0, 0)
assert h.pread(0, 0) == b""
h.pwrite(b"odd", 4095), h.zero(3, 4097), h.trim(5, 4093)
assert h.pread(4, 4094) == b"\0od\0", h.pread(4, 4094)
if sys.argv[2] != "simple":
    refused(inv, h.block_status, 2, size - 1, lambda *a: 0)
    refused(inv, h.block_status, 0, 0, lambda *a: 0)
refused(inv, h.pread, 32 * 2**20 + 1, 0)
h.shutdown()
print("OK")
`

func TestIllegalRequests(t *testing.T) {
	for _, replies := range []string{"structured", "simple"} {
		t.Run(replies, func(t *testing.T) {
			path, _ := serve(t, nbd.Config{Exports: newShelf(t, 64<<20)})
			script(t, illegal, "nbd+unix:///vol?socket="+path, replies)
		})
	}
}

// strict lets libnbd check all that it sends, and whether the server keeps to
// what it offers.
const strict = `
import errno, nbd, sys
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.set_strict_mode(nbd.STRICT_MASK)
h.set_request_block_size(True)
h.set_full_info(True)
h.connect_uri(sys.argv[1])
assert h.get_structured_replies_negotiated() and h.can_meta_context("base:allocation")
assert h.get_block_size(nbd.SIZE_MINIMUM) == 1 and h.get_block_size(nbd.SIZE_PREFERRED) == 4096
assert h.can_multi_conn() and h.can_df() and h.can_fua() and h.can_cache() and h.can_fast_zero()
h.pwrite(b"a" * 8192, 0, flags=nbd.CMD_FLAG_FUA)
seen = []
h.block_status(65536, 0, lambda name, off, e, err: seen.append((name, off, e)) and 0)
assert seen == [("base:allocation", 0, [8192, 0, 57344, 3])], seen
chunks = []
def chunk(buf, off, status, err):
    chunks.append((len(buf), off, status))
h.pread_structured(8192, 0, chunk, flags=nbd.CMD_FLAG_DF)
assert chunks == [(8192, 0, nbd.READ_DATA)], chunks
chunks.clear()
h.pread_structured(131072, 65536, chunk)
assert chunks == [(131072, 65536, nbd.READ_HOLE)], chunks
h.zero(4096, 0, flags=nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(8192, 0) == bytearray(4096) + b"a" * 4096
cookies = [h.aio_pread(nbd.Buffer(4096), i * 4096) for i in range(200)]
while h.aio_in_flight() > 0:
    h.poll(-1)
assert all(h.aio_command_completed(c) for c in cookies)
h.flush(), h.shutdown()
print("OK")
`

func TestStrictClient(t *testing.T) {
	path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
	script(t, strict, "nbd+unix:///vol?socket="+path)
}

// TestNbdkitFilters puts another server with filters between a client and us.
func TestNbdkitFilters(t *testing.T) {
	for name, args := range map[string][]string{
		"blocksize":  {"--filter=blocksize", "minblock=4k", "maxdata=64k"},
		"retry":      {"--filter=retry", "retry-delay=1"},
		"delay":      {"--filter=delay", "wdelay=1ms", "rdelay=1ms"},
		"stats":      {"--filter=stats", "statsfile=/dev/null"},
		"cache":      {"--filter=cache", "cache=writethrough"},
		"cow":        {"--filter=cow"},
		"readahead":  {"--filter=readahead"},
		"fua":        {"--filter=fua", "fuamode=force"},
		"multi-conn": {"--filter=multi-conn", "multi-conn-mode=emulate"},
		"nozero":     {"--filter=nozero", "zeromode=emulate"},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := serve(t, nbd.Config{Exports: newShelf(t, testSize)})
			exporttest.Tool(t, "qemu-io")
			all := append([]string{"-U", "-", "nbd", "socket=" + path, "export=vol", "shared=true"}, args...)
			exporttest.Run(t, "nbdkit", append(all, "--run",
				`qemu-io -f raw -c "write -P 7 4k 300k" -c "write -z 8k 4k" -c "discard 1M 64k" -c flush `+
					`-c "read -P 7 4k 4k" -c "read -P 0 8k 4k" -c "read -P 7 12k 292k" "$uri" >out && ! grep -E "fail|error" out`)...)
		})
	}
	t.Run("checkwrite", func(t *testing.T) { // it compares what is written with what is there
		s := newShelf(t, testSize)
		if _, err := s.Device.WriteAt(exporttest.Fill(3, 1<<20), 1<<20); err != nil {
			t.Fatal(err)
		}
		path, _ := serve(t, nbd.Config{Exports: s})
		exporttest.Run(t, "nbdkit", "-U", "-", "--filter=checkwrite", "nbd", "socket="+path, "export=vol", "--run",
			"nbdcopy 'nbd+unix:///vol?socket="+path+"' \"$uri\"")
	})
}

// TestGrowth: a client that is connected may use the new part at once, and who
// connects later is told of it.
func TestGrowth(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	w.request(1, 0, testSize, 1, 7)
	w.plain(1, 28)
	if err := s.Store.ExtendVolume(t.Context(), "v", 2*testSize); err != nil {
		t.Fatal(err)
	}
	w.request(1, 0, testSize, 1, 7)
	w.plain(1, 0)
	url := "nbd+unix:///vol?socket=" + path
	if got := strings.TrimSpace(exporttest.Run(t, "nbdinfo", "--size", url)); got != "16777216" {
		t.Errorf("nbdinfo: %s", got)
	}
	if out := exporttest.Run(t, "qemu-img", "info", url); !strings.Contains(out, "16 MiB") {
		t.Errorf("qemu-img info: %s", out)
	}
	if c := connect(t, path); c.Size() != 2*testSize {
		t.Errorf("our client sees %d bytes", c.Size())
	}
}

// TestTakenAway: a device that was fenced or deleted under a client refuses
// with what the protocol has for it, and the connection lives.
func TestTakenAway(t *testing.T) {
	s := newShelf(t, testSize)
	path, _ := serve(t, nbd.Config{Exports: s})
	w := enter(t, path, "vol", false)
	for kind, errno := range map[block.Kind]int{block.Stale: 1, block.Forbidden: 1, block.NotFound: 108,
		block.NoSpace: 28, block.Corrupt: 5} {
		s.Faults.SetRule(func(c drivertest.Call) error {
			if c.Op == drivertest.OpWrite && !c.After {
				return block.Errorf(kind, "not any more")
			}
			return nil
		})
		w.request(1, 0, 0, 1, 7)
		w.plain(1, errno)
		w.request(1, fua, 0, 1, 7)
		w.plain(1, errno)
		w.request(3, 0, 0, 0)
		w.plain(3, 0)
	}
}
