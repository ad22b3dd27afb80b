package control_test

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/iscsi"
)

const host1, host2 = "iqn.2025-01.test:one", "iqn.2025-01.test:two"

func TestTargets(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	connector := map[string]any{"host": "h", "initiator": host1}
	_, info := z.connect(v.ID, connector)
	if info.DriverVolumeType != "nbd" {
		t.Fatalf("a zone that serves no iSCSI: %+v", info)
	}
	z.iscsi = "192.0.2.1:3260"
	v = z.make(control.NewVolume{Size: ptr(int64(1))})
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, connector)
	must(t, err)
	d := info.Data
	if info.DriverVolumeType != "iscsi" || d["target_portal"] != z.iscsi || d["target_lun"] != 1 ||
		d["auth_method"] != "CHAP" || d["volume_id"] != string(v.ID) || d["access_mode"] != "rw" {
		t.Fatalf("connection info %+v", info)
	}
	name := d["target_iqn"].(string)
	targets := z.Targets()
	if list, err := targets.Discover(z.ctx, host1); err != nil || len(list) != 1 || list[0] != name {
		t.Errorf("an initiator's targets: %v %v", list, err)
	}
	if list, err := targets.Discover(z.ctx, host2); err != nil || len(list) != 0 {
		t.Errorf("another's targets: %v %v", list, err)
	}
	if c, err := targets.Credentials(z.ctx, name, host1); err != nil || c.User != d["auth_username"] ||
		c.Secret != d["auth_password"] || len(c.Secret) != 24 {
		t.Errorf("credentials differ from what the host was told: %v", err)
	}
	for _, x := range []struct{ name, initiator string }{{name, host2}, {name + "x", host1}, {"iqn.other", host1}} {
		if _, err := targets.Credentials(z.ctx, x.name, x.initiator); !block.Is(err, block.NotFound) {
			t.Errorf("%v: %v", x, err)
		}
		if _, err := targets.Open(z.ctx, x.name, x.initiator); !block.Is(err, block.NotFound) {
			t.Errorf("%v: %v", x, err)
		}
	}
	other, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"initiator": host1, "protocol": "nbd"})
	if must(t, err); other.DriverVolumeType != "nbd" {
		t.Errorf("who asks for NBD gets %+v", other)
	}
	byNBD := strings.SplitN(other.Data["export"].(string), ".", 2)[0]
	if _, err := targets.Open(z.ctx, "iqn.2025-01.kvol:"+byNBD, host1); !block.Is(err, block.NotFound) {
		t.Errorf("an NBD connection is a target: %v", err)
	}
	open, err := targets.Open(z.ctx, name, host1)
	must(t, err)
	defer open.Release()
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, connector))
	<-open.Revoked
	if _, err := open.Device.WriteAt(make([]byte, 512), 0); err == nil {
		t.Error("a target that was taken back is written to")
	}
	if _, err := targets.Credentials(z.ctx, name, host1); !block.Is(err, block.NotFound) {
		t.Errorf("a target that was taken back: %v", err)
	}
}

// serveTargets serves the zone's targets until the test ends, or stop is called.
func (z *zone) serveTargets(l net.Listener) (stop func()) {
	z.t.Helper()
	return exporttest.Serve(z.t, iscsi.New(iscsi.Config{Targets: z.Targets(), Reservations: z.Reservations(),
		Log: slog.New(slog.DiscardHandler)}), l)
}

// TestReservationsSurviveTheZone: what an initiator reserved persistently is
// there after a restart, before anybody else may write, and ends with the volume.
func TestReservationsSurviveTheZone(t *testing.T) {
	exporttest.Tool(t, "iscsi-ls") // its package brings the library
	z := newZone(t)
	l := exporttest.Listen(t)
	z.iscsi = l.Addr().String()
	stop := z.serveTargets(l)
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: ptr("shared")})
	play := func(initiator string, steps ...string) string {
		t.Helper()
		info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"initiator": initiator, "host": initiator})
		must(t, err)
		d := info.Data
		script, err := filepath.Abs("testdata/reserve.py")
		must(t, err)
		args := append([]string{script, z.iscsi, d["target_iqn"].(string), "1", d["auth_username"].(string),
			d["auth_password"].(string), initiator}, steps...)
		return strings.ReplaceAll(strings.TrimSpace(exporttest.Run(t, "python3", args...)), "\n", ", ")
	}
	if got := play(host1, "register=7", "reserve=7", "write"); got != "register 0, reserve 0, write 0" {
		t.Fatal(got)
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			stop()
			z.restart()
			l = exporttest.Listen(t)
			z.iscsi = l.Addr().String()
			stop = z.serveTargets(l)
		}
		if got := play(host2, "read", "write"); got != "read 24, write 24" {
			t.Errorf("restarted %v: a stranger: %s", restarted, got)
		}
		if got := play(host1, "read", "write"); got != "read 0, write 0" {
			t.Errorf("restarted %v: the holder: %s", restarted, got)
		}
	}
	if state, err := z.Reservations().LoadReservations(z.ctx, string(v.ID)); err != nil || state == nil {
		t.Errorf("kept: %q %v", state, err)
	}
	if got := play(host1, "clear=7") + ", " + play(host2, "write"); got != "clear 0, write 0" {
		t.Error(got)
	}
	if state, err := z.Reservations().LoadReservations(z.ctx, string(v.ID)); err != nil || state != nil {
		t.Errorf("kept after it was cleared: %q %v", state, err)
	}
	if err := z.Reservations().SaveReservations(z.ctx, block.NewID(), []byte("{}")); err == nil {
		t.Error("reservations of no volume were kept")
	}
}

// TestTwoWayCHAP has libiscsi's initiator ask a target to prove itself, with the
// secret that connection_info tells, and with another.
func TestTwoWayCHAP(t *testing.T) {
	exporttest.Tool(t, "iscsi-ls") // its package brings the library
	z := newZone(t)
	l := exporttest.Listen(t)
	z.iscsi = l.Addr().String()
	z.serveTargets(l)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"initiator": host1, "host": "h"})
	must(t, err)
	d := info.Data
	its := d["target_auth_password"].(string)
	if its == d["auth_password"] || len(its) != 24 {
		t.Fatalf("the target's secret is %q", its)
	}
	script, err := filepath.Abs("testdata/reserve.py")
	must(t, err)
	play := func(its string) (string, error) {
		return exporttest.Try(t, "python3", script, z.iscsi, d["target_iqn"].(string), "1",
			d["auth_username"].(string)+","+d["target_auth_username"].(string), d["auth_password"].(string)+","+its,
			host1, "write")
	}
	if out, err := play(its); err != nil || strings.TrimSpace(out) != "write 0" {
		t.Errorf("both proved: %q, %v", out, err)
	}
	if out, err := play(strings.Repeat("x", 24)); err == nil {
		t.Errorf("a target that does not prove itself: %q", out)
	}
}

// TestInitiator has qemu's initiator use what connection_info says.
func TestInitiator(t *testing.T) {
	if _, err := exec.LookPath("qemu-io"); err != nil {
		if os.Getenv("KVOL_REQUIRE_TOOLS") == "1" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: QEMU-IO IS NOT INSTALLED")
	}
	z := newZone(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	z.iscsi = l.Addr().String()
	z.serveTargets(l)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"initiator": host1})
	must(t, err)
	try := func(initiator, password string) string {
		cmd := exec.CommandContext(t.Context(), "qemu-io", "--image-opts", "driver=raw,file.driver=iscsi,"+
			"file.transport=tcp,file.lun=1,file.portal="+z.iscsi+",file.target="+info.Data["target_iqn"].(string)+
			",file.initiator-name="+initiator+",file.user="+info.Data["auth_username"].(string)+",file.password="+password,
			"-c", "write -P 7 1M 1M", "-c", "flush", "-c", "read -P 7 1M 1M")
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	password := info.Data["auth_password"].(string)
	if out := try(host1, password); !strings.Contains(out, "read 1048576/1048576") || strings.Contains(out, "failed") {
		t.Errorf("qemu-io: %s", out)
	}
	for _, out := range []string{try(host2, password), try(host1, "wrong")} {
		if strings.Contains(out, "1048576/1048576") {
			t.Errorf("it was let in: %s", out)
		}
	}
	open, err := z.Targets().Open(z.ctx, info.Data["target_iqn"].(string), host1)
	must(t, err)
	defer open.Release()
	got := make([]byte, 1<<20)
	if _, err := open.Device.ReadAt(got, 1<<20); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{7}, 1<<20)) {
		t.Errorf("the volume does not hold what was written: %v", err)
	}
}
