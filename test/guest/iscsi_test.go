package guest

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

//go:embed iscsi.sh
var iscsiScript string

const (
	iqn       = "iqn.2025-01.test:disk"
	initiator = "iqn.2025-01.test:guest"
	user      = "guest"
	password  = "asecretoflength"
)

// target serves one volume to one initiator that proves itself.
type target struct{ *exporttest.Volume }

func (target) Discover(_ context.Context, who string) ([]string, error) {
	if who != initiator {
		return nil, nil
	}
	return []string{iqn}, nil
}

func (target) Credentials(_ context.Context, name, who string) (iscsi.Credentials, error) {
	if name != iqn || who != initiator {
		return iscsi.Credentials{}, block.Errorf(block.NotFound, "no such target")
	}
	return iscsi.Credentials{User: user, Secret: password}, nil
}

func (s target) Open(context.Context, string, string) (iscsi.Target, error) {
	return iscsi.Target{Device: s.Device, LUN: 1, Unit: "disk", Release: s.Use()}, nil
}

// openISCSI finds the initiator's programs, which test/setup.sh unpacks.
func openISCSI(t *testing.T) (dir string) {
	t.Helper()
	root := os.Getenv("KVOL_GUEST_KERNEL")
	if root == "" {
		root = "/var/cache/kvol-guest"
	}
	dir = filepath.Join(root, "open-iscsi")
	if _, err := os.Stat(filepath.Join(dir, "sbin", "iscsid")); err != nil {
		missing(t, "open-iscsi in "+dir)
	}
	return dir
}

// TestKernelInitiator attaches a target by iscsi_tcp with CHAP and digests: a
// wrong secret is refused, a partition keeps ext4, what is deleted is given back,
// the disk grows while it is mounted, and after a logout and a login the file is
// there.
func TestKernelInitiator(t *testing.T) {
	const size, grown = 128 << 20, 192 << 20
	dir := openISCSI(t)
	v := exporttest.NewVolume(t, size)
	l := exporttest.Listen(t)
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	portal := net.JoinHostPort("10.0.2.2", port) // this machine, as the guest sees it
	exporttest.Serve(t, iscsi.New(iscsi.Config{Targets: target{v}, Portal: portal, Log: exporttest.Log(t)}), l)
	m := machine{
		script: iscsiScript,
		modules: []string{"drivers/scsi/scsi_common", "drivers/scsi/scsi_mod", "drivers/scsi/sd_mod",
			"drivers/scsi/scsi_transport_iscsi", "drivers/scsi/libiscsi", "drivers/scsi/libiscsi_tcp",
			"drivers/scsi/iscsi_tcp"},
		programs: map[string]string{"sbin/iscsid": filepath.Join(dir, "sbin", "iscsid"),
			"sbin/iscsiadm": filepath.Join(dir, "sbin", "iscsiadm"), "sbin/mke2fs": tool(t, "mke2fs")},
		libs: filepath.Join(dir, "usr", "lib", "x86_64-linux-gnu"),
		texts: map[string]string{"target": fmt.Sprintf("portal=%s iqn=%s initiator=%s user=%s password=%s\n", portal, iqn,
			initiator, user, password)},
	}
	var zeroed atomic.Int64
	said := m.run(t, func(line string) {
		switch line {
		case "TRIM":
			zeroed.Store(int64(v.Faults.Calls(drivertest.OpZero)))
		case "TRIMMED":
			zeroed.Store(int64(v.Faults.Calls(drivertest.OpZero)) - zeroed.Load())
		case "GROW":
			if err := v.Store.ExtendVolume(context.Background(), "v", grown); err != nil {
				t.Error(err)
			}
		}
	})
	for _, want := range []string{"DISCOVERED", "REFUSED", "DIGESTS 1", fmt.Sprintf("DISK %d BLOCK 4096", size/512),
		"MOUNTED", "TRIMMED", fmt.Sprintf("GREW %d", grown/512), "LEFT", "DONE"} {
		if !strings.Contains(said, want+"\n") {
			t.Errorf("the guest did not say %q", want)
		}
	}
	if zeroed.Load() < 1 {
		t.Error("what was trimmed was not given back")
	}
	same := regexp.MustCompile(`SAME ([0-9a-f]{64})`).FindStringSubmatch(said)
	part := regexp.MustCompile(`PART (\d+) (\d+)`).FindStringSubmatch(said)
	if same == nil || part == nil {
		t.Fatalf("the guest:\n%s", said)
	}
	start, _ := strconv.ParseInt(part[1], 10, 64) // digits
	length, _ := strconv.ParseInt(part[2], 10, 64)
	holds(t, io.NewSectionReader(v.Device, start*512, length*512), same[1])
	if t.Failed() {
		t.Logf("the guest:\n%s", said)
	}
}
