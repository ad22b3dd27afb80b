package iscsi_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

// TestConformance runs libiscsi's tests of targets. Those that fail have to be
// known, and are explained in docs/iscsi.md.
func TestConformance(t *testing.T) {
	t.Parallel() // it mostly waits
	known := map[string]bool{"GetLBAStatus.UnmapSingle": true, "WriteSame10.UnmapUntilEnd": true}
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize), Log: slog.New(slog.DiscardHandler)})
	out, _ := exporttest.Try(
		t,
		"iscsi-test-cu",
		"--test=ALL",
		"--dataloss",
		"--allow-sanitize",
		"iscsi://"+address+"/"+iqn+"/1",
	)
	if path := os.Getenv("KVOL_ISCSI_LOG"); path != "" {
		_ = os.WriteFile(path, []byte(out), 0o600)
	}
	m := regexp.MustCompile(`tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("the suite did not end: %s", out[max(0, len(out)-2000):])
	}
	total, _ := strconv.Atoi(m[1])
	suite, test := "", ""
	for line := range strings.Lines(out) {
		if name, ok := strings.CutPrefix(line, "Suite: "); ok {
			suite = strings.TrimSpace(name)
		} else if _, name, ok := strings.Cut(line, "  Test: "); ok {
			test, _, _ = strings.Cut(name, " ")
		}
		if name := suite + "." + test; strings.HasSuffix(strings.TrimSpace(line), "FAILED") && !known[name] {
			t.Errorf("%s failed", name)
		}
	}
	t.Logf("%s of %d passed, %s failed", m[3], total, m[4])
}

func TestIscsiLs(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	out := exporttest.Run(t, "iscsi-ls", "-s", "iscsi://"+address)
	for _, want := range []string{"Target:" + iqn + " ", "Portal:" + address + ",1", "Lun:1", "(Size:63M)"} {
		if !strings.Contains(out, want) {
			t.Errorf("iscsi-ls lacks %q: %s", want, out)
		}
	}
}

// TestDiscoveryWithSecret has libiscsi discover targets where that needs a secret,
// in one way and in both.
func TestDiscoveryWithSecret(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize), Discovery: iscsi.Credentials{User: user,
		Secret: secret, TargetUser: targetUser, TargetSecret: targetSecret}})
	for _, test := range []struct {
		who, more string
		ok        bool
	}{
		{user + "%" + secret + "@", "", true},
		{user + "%wrong@", "", false},
		{"nobody%" + secret + "@", "", false},
		{"", "", false},
		{user + "%" + secret + "@", "?target_user=" + targetUser + "&target_password=" + targetSecret, true},
		{user + "%" + secret + "@", "?target_user=" + targetUser + "&target_password=wrong", false},
	} {
		out, err := exporttest.Try(t, "iscsi-ls", "iscsi://"+test.who+address+"/"+test.more)
		if ok := err == nil && strings.Contains(out, "Target:"+iqn+" "); ok != test.ok {
			t.Errorf("%s%s: %v: %s", test.who, test.more, err, out)
		}
	}
	exporttest.Run(t, "iscsi-inq", "iscsi://"+address+"/"+iqn+"/1") // a target has secrets of its own
}

// TestQemu has qemu's initiator write and verify, with and without CHAP and
// digests.
func TestQemu(t *testing.T) {
	for _, test := range []struct{ name, target, options string }{
		{"plain", iqn, "header-digest=none"},
		{"digests", iqn, "header-digest=crc32c"},
		{"chap", iqn + "-chap", "header-digest=none,user=" + user + ",password=" + secret},
		{"chap and digests", iqn + "-chap", "header-digest=crc32c-none,user=" + user + ",password=" + secret},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newShelf(t, testSize)
			address, _ := serve(t, iscsi.Config{Targets: s})
			image := "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=" + address + ",file.lun=1,file.target=" +
				test.target + ",file." + strings.ReplaceAll(test.options, ",", ",file.")
			args := []string{"--image-opts", image}
			for _, c := range []string{
				"write -P 0x11 0 64k", "write -f -P 0x22 64k 64k", "aio_write -P 0x33 1M 9M", "aio_flush", "flush",
				"read -P 0x11 0 64k", "read -P 0x22 64k 64k", "read -P 0x33 1M 9M",
				"write -z 1M 512k", "read -P 0 1M 512k", "write -z -u 2M 512k", "read -P 0 2M 512k",
				"discard 0 4k", "read -P 0 0 4k", "read -P 0x11 4k 60k", "write -P 0x44 4095 2", "read -P 0x44 4095 2",
			} {
				args = append(args, "-c", c)
			}
			if out := exporttest.Run(t, "qemu-io", args...); strings.Contains(out, "failed") || strings.Contains(out, "rror") {
				t.Errorf("qemu-io: %s", out)
			}
			s.Holds(t, 3<<20, bytes.Repeat([]byte{0x33}, 7<<20))
		})
	}
}

func TestQemuImg(t *testing.T) {
	s := newShelf(t, 16<<20)
	address, _ := serve(t, iscsi.Config{Targets: s})
	url := func(name string) string { return "iscsi://" + address + "/" + name + "/1" }
	content := make([]byte, 16<<20)
	copy(content[3<<20:], exporttest.Fill(1, 2<<20+512))
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, content, 0o600); err != nil {
		t.Fatal(err)
	}
	exporttest.Run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw, url(iqn))
	s.Holds(t, 0, content)
	exporttest.Run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", raw, url(iqn+"-ro"))
	if out := exporttest.Run(t, "qemu-img", "map", "--output=json", "-f", "raw", url(iqn)); !strings.Contains(
		out,
		"3145728",
	) {
		t.Errorf("qemu-img map: %s", out)
	}
	exporttest.Run(t, "qemu-img", "bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "--flush-interval=100", url(iqn))
	exporttest.Run(t, "qemu-img", "bench", "-f", "raw", "-c", "2000", "-d", "32", url(iqn))
	if out, err := exporttest.Try(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", raw,
		url(iqn+"-ro")); err == nil {
		t.Errorf("a read-only target was written: %s", out)
	}
	if out, err := exporttest.Try(t, "qemu-img", "info", url(iqn+"-nope")); err == nil {
		t.Errorf("an unknown target: %s", out)
	}
	if out, err := exporttest.Try(t, "qemu-img", "info", url(iqn+"-chap")); err == nil {
		t.Errorf("no secret was needed: %s", out)
	}
}

// TestChap has libiscsi prove itself, and ask for proof where the target can
// give it.
func TestChap(t *testing.T) {
	address, _ := serve(t, iscsi.Config{Targets: newShelf(t, testSize)})
	for _, test := range []struct {
		who, target, more string
		ok                bool
	}{
		{user + "%" + secret, "-chap", "", true},
		{user + "%wrong", "-chap", "", false},
		{"nobody%" + secret, "-chap", "", false},
		{user + "%" + secret, "-mutual", "?target_user=" + targetUser + "&target_password=" + targetSecret, true},
		{user + "%" + secret, "-mutual", "?target_user=" + targetUser + "&target_password=wrong", false},
		{user + "%" + secret, "-chap", "?target_user=" + targetUser + "&target_password=" + targetSecret, false},
	} {
		url := "iscsi://" + strings.ReplaceAll(test.who, " ", "%20") + "@" + address + "/" + iqn + test.target + "/1" +
			strings.ReplaceAll(test.more, " ", "%20")
		out, err := exporttest.Try(t, "iscsi-inq", url)
		if ok := err == nil && strings.Contains(out, "BLOCK VOLUME"); ok != test.ok {
			t.Errorf("%s: %v: %s", url, err, out)
		}
	}
}
