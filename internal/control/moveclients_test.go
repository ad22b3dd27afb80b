package control_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/exporttest"
	"kvol/internal/export/nbd"
)

// qemuHost is a host: an unmodified initiator that has a volume open until the test
// ends.
type qemuHost struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
}

// newQemuHost opens a volume as its connection says.
func (z *zone) newQemuHost(info control.ConnectionInfo, initiator string) *qemuHost {
	z.t.Helper()
	d := info.Data
	image := fmt.Sprintf("driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=%v,file.server.port=%v,"+
		"file.export=%v", d["host"], d["port"], d["export"])
	if info.DriverVolumeType == "iscsi" {
		image = fmt.Sprintf("driver=raw,file.driver=iscsi,file.transport=tcp,file.lun=1,file.portal=%v,file.target=%v,"+
			"file.initiator-name=%s,file.user=%v,file.password=%v", d["target_portal"], d["target_iqn"], initiator,
			d["auth_username"], d["auth_password"])
	}
	cmd := exec.Command(exporttest.Tool(z.t, "qemu-io"), "--image-opts", image) // ends when its input does
	in, err := cmd.StdinPipe()
	must(z.t, err)
	out, err := cmd.StdoutPipe()
	must(z.t, err)
	var said bytes.Buffer
	cmd.Stderr = &said
	must(z.t, cmd.Start())
	z.t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !z.t.Failed() {
			z.t.Errorf("the host ended with %v: %s", err, said.String())
		}
	})
	q := &qemuHost{z.t, in, bufio.NewReader(out)}
	q.answer()
	return q
}

const qemuPrompt = "qemu-io> "

// answer reads up to the next prompt.
func (q *qemuHost) answer() string {
	var said strings.Builder
	for !strings.HasSuffix(said.String(), qemuPrompt) {
		b, err := q.out.ReadByte()
		if err != nil {
			q.t.Errorf("the host ended: %v: %s", err, said.String())
			return said.String()
		}
		said.WriteByte(b)
	}
	return strings.TrimSuffix(said.String(), qemuPrompt)
}

// do has the host carry out a command, which must succeed. It may be called from
// one goroutine at a time.
func (q *qemuHost) do(format string, args ...any) {
	q.t.Helper()
	if _, err := fmt.Fprintf(q.in, format+"\n", args...); err != nil {
		q.t.Errorf("the host is gone: %v", err)
		return
	}
	what := fmt.Sprintf(format, args...)
	if out := q.answer(); strings.Contains(out, "failed") || strings.Contains(out, "error") ||
		!strings.Contains(out, "ops") && !strings.HasPrefix(what, "flush") {
		q.t.Errorf("%s: %s", what, out)
	}
}

// serveAll serves the zone's exports by TCP in both ways.
func (z *zone) serveAll() {
	z.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(z.t, err)
	z.iscsi = l.Addr().String()
	z.serveTargets(l)
	l, err = net.Listen("tcp", "127.0.0.1:0")
	must(z.t, err)
	z.nbd = l.Addr().String()
	exporttest.Serve(z.t, nbd.New(nbd.Config{Exports: z.Exports(), Log: slog.New(slog.DiscardHandler)}), l)
}

const (
	moveSlot  = 1 << 20 // bytes that a host writes at a time
	moveSlots = 24
)

// TestMoveUnderClients moves a volume that qemu has attached, by NBD and by
// iSCSI, clear and encrypted by the zone, to another store and back. qemu writes
// during each step of it, and reads back all that it wrote.
func TestMoveUnderClients(t *testing.T) {
	exporttest.Tool(t, "qemu-io")
	for _, protocol := range []string{"nbd", "iscsi"} {
		for _, encrypted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, encrypted %v", protocol, encrypted), func(t *testing.T) {
				moveUnderClient(t, protocol, encrypted)
			})
		}
	}
}

func moveUnderClient(t *testing.T, protocol string, encrypted bool) {
	z := newZone(t)
	z.serveAll()
	vt := "fast"
	if encrypted {
		vt = z.encryptedType("hushed", block.BackEnd).Name
	}
	v := z.make(control.NewVolume{Size: ptr(int64(1)), VolumeType: &vt})
	must(t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	info, err := z.InitializeConnection(z.ctx, alice, v.ID, map[string]any{"host": "h", "initiator": host1,
		"protocol": protocol})
	must(t, err)
	if info.DriverVolumeType != protocol {
		t.Fatalf("the connection is %+v", info)
	}
	host := z.newQemuHost(info, host1)
	w := &moveWriter{host: host, wrote: map[int]int{}}
	for range moveSlots {
		w.write()
	}
	for _, to := range []string{"slow", "fast"} {
		store := map[string]*drivertest.Faults{"slow": z.slow, "fast": z.fast}[to]
		before := w.count
		wrote, stop := w.run()
		copies := 0
		store.SetRule(func(c drivertest.Call) error {
			// For the first time all is copied, with a write of the host between any two
			// of the copy. From then on the host writes when it may.
			if copies++; c.Op == drivertest.OpWrite && !c.After && copies < moveSlots {
				<-wrote
			}
			return nil
		})
		must(t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: to}))
		z.work(z.ctx)
		stop()
		z.leaveAlone()
		if got := z.volume(v.ID); got.Backend != to || got.MigrationStatus != block.MigrationSuccess ||
			got.Status != block.VolumeInUse {
			t.Fatalf("the volume is %s on %s, %s", got.Status, got.Backend, got.MigrationStatus)
		}
		w.check()
		if n := w.count - before; n < moveSlots/3 {
			t.Errorf("the host wrote %d times while the volume moved", n)
		}
	}
	host.do("flush")
	w.check()
	if dev := z.closer.last(); encrypted {
		p := make([]byte, moveSlot)
		_, err := dev.ReadAt(p, 0)
		must(t, err)
		if driver.IsZero(p) || bytes.Count(p, p[:1]) > moveSlot/16 {
			t.Error("the store has what the host wrote in the clear")
		}
	}
	z.wantStored(string(v.ID))
}

// moveWriter has a host write to slots, a pattern each time. One goroutine may use
// it at a time.
type moveWriter struct {
	host  *qemuHost
	count int
	wrote map[int]int // slot to pattern
}

func (w *moveWriter) write() {
	slot := w.count * 7 % moveSlots
	w.count++
	pattern := w.count%250 + 1
	w.host.do("write -P %d %d %d", pattern, slot*moveSlot*4, moveSlot)
	w.wrote[slot] = pattern
}

// run writes until stop is called, and tells of each write who listens.
func (w *moveWriter) run() (wrote chan struct{}, stop func()) {
	wrote = make(chan struct{})
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for !w.host.t.Failed() {
			w.write()
			select {
			case <-end:
				return
			case wrote <- struct{}{}:
			default:
			}
		}
		close(wrote)
	}()
	return wrote, func() { close(end); <-ended }
}

// check has the host read all that it wrote.
func (w *moveWriter) check() {
	for _, slot := range slices.Sorted(maps.Keys(w.wrote)) {
		w.host.do("read -P %d %d %d", w.wrote[slot], slot*moveSlot*4, moveSlot)
	}
}

// TestMoveOfGroupMembers: a volume of a group stays on its backend, whoever asks.
func TestMoveOfGroupMembers(t *testing.T) {
	z := newZone(t)
	_, volumes := z.group("member")
	v := volumes[0]
	err := z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow"})
	if !block.Is(err, block.Invalid) || !strings.Contains(err.Error(), "be part of a group") {
		t.Errorf("migrating a member: %v", err)
	}
	err = z.RetypeVolume(z.ctx, alice, v.ID, "slow", control.MigrateOnDemand)
	if !block.Is(err, block.Invalid) || !strings.Contains(err.Error(), "a consistency group") {
		t.Errorf("retyping a member: %v", err)
	}
	// One that became a member since it was asked.
	g, _ := z.group()
	late := z.make(control.NewVolume{Size: ptr(int64(1))})
	z.write(late, []byte("late"), 0)
	must(t, z.RetypeVolume(z.ctx, alice, late.ID, "slow", control.MigrateOnDemand))
	z.update(func(tx *catalog.Tx) error {
		row, err := tx.Volume(late.ID)
		if err != nil {
			return err
		}
		row.GroupID = &g.ID
		return tx.UpdateVolume(row)
	})
	z.work(z.ctx)
	got := z.volume(late.ID)
	if got.Backend != "fast" || got.TypeName != "fast" || got.Status != block.VolumeAvailable {
		t.Errorf("the member is %s, %s on %s", got.Status, got.TypeName, got.Backend)
	}
	z.wantMessage("retype volume:The volume has snapshots, or belongs to a group")
	z.wantMoved(got, "late", true)
	z.wantStored(string(v.ID), string(late.ID))
}
