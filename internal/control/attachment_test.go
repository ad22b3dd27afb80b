package control_test

import (
	"strconv"
	"strings"
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
)

// compute is the compute service on behalf of alice.
var compute = block.Caller{Project: alice.Project, User: alice.User, Roles: alice.Roles,
	ServiceRoles: []string{"service"}}

const usedByCompute = "ConflictNovaUsingAttachment: Detach volume from instance " +
	"22222222-2222-2222-2222-222222222222 using the Compute API"

var hostH = map[string]any{"host": "h", "mountpoint": "/dev/vdb"}

// TestAttachment walks the way of a compute service: reserved, connected,
// complete, gone. The path works from when it is given until the end.
func TestAttachment(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	server := ptr("22222222-2222-2222-2222-222222222222")
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: server})
	must(t, err)
	if a.Status != "reserved" || a.Info != nil || z.volume(v.ID).Status != block.VolumeReserved {
		t.Fatalf("reserved: %+v, the volume is %s", a, z.volume(v.ID).Status)
	}
	_, err = z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: ptr("other")})
	wantError(t, "second", err, block.Invalid, "Invalid volume: Volume "+string(v.ID)+
		" status must be available or downloading to reserve, but the current status is reserved.")
	a, err = z.UpdateAttachment(z.ctx, alice, a.ID, hostH)
	must(t, err)
	if a.Status != "attaching" || z.volume(v.ID).Status != block.VolumeAttaching {
		t.Fatalf("connected: %+v, the volume is %s", a, z.volume(v.ID).Status)
	}
	name, ok := a.Info.Data["export"].(string)
	if !ok {
		t.Fatalf("no export in %v", a.Info)
	}
	again, err := z.UpdateAttachment(z.ctx, alice, a.ID, hostH)
	must(t, err)
	if again.Info.Data["export"] != name {
		t.Errorf("the same connector got another path")
	}
	must(t, z.CompleteAttachment(z.ctx, alice, a.ID))
	if now := z.volume(v.ID); now.Status != block.VolumeInUse || len(now.Attachments) != 1 ||
		now.Attachments[0].Mode != "rw" || *now.Attachments[0].HostName != "h" {
		t.Errorf("complete: %+v", now)
	}
	x, err := z.Exports().Open(z.ctx, name)
	must(t, err)
	defer x.Release()
	_, err = z.DeleteAttachment(z.ctx, alice, a.ID)
	wantError(t, "a user", err, block.Conflict, usedByCompute)
	left, err := z.DeleteAttachment(z.ctx, compute, a.ID)
	must(t, err)
	select {
	case <-x.Revoked:
	default:
		t.Error("the path outlives the attachment")
	}
	if _, err := z.Exports().Open(z.ctx, name); len(left) != 0 || !block.Is(err, block.NotFound) {
		t.Errorf("left %v, opening the path: %v", left, err)
	}
	if now := z.volume(v.ID); now.Status != block.VolumeAvailable {
		t.Errorf("the volume is %s", now.Status)
	}
}

// TestAttachmentConnectors: a new connector takes the old path back, another
// host is refused, and a volume that only reads gives no path that writes.
func TestAttachmentConnectors(t *testing.T) {
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	server := ptr("22222222-2222-2222-2222-222222222222")
	a, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: server,
		Connector: hostH, Mode: "ro"})
	must(t, err)
	if a.Info.Data["access_mode"] != "ro" {
		t.Errorf("read-only, but %v", a.Info.Data)
	}
	old, _ := a.Info.Data["export"].(string)
	a, err = z.UpdateAttachment(z.ctx, alice, a.ID, map[string]any{"host": "g"})
	must(t, err)
	if _, err := z.Exports().Open(z.ctx, old); !block.Is(err, block.NotFound) {
		t.Errorf("the old path: %v", err)
	}
	must(t, z.CompleteAttachment(z.ctx, alice, a.ID))
	// A server that moves to another host is attached twice for a while.
	b, err := z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, ServerID: server})
	must(t, err)
	if now := z.volume(v.ID); now.Status != block.VolumeInUse {
		t.Errorf("while it moves: %s", now.Status)
	}
	_, err = z.UpdateAttachment(z.ctx, alice, b.ID, hostH)
	must(t, err)
	_, err = z.DeleteAttachment(z.ctx, alice, a.ID)
	wantError(t, "a user", err, block.Conflict, usedByCompute)
	left, err := z.DeleteAttachment(z.ctx, compute, a.ID)
	must(t, err)
	if now := z.volume(v.ID); len(left) != 1 || now.Status != block.VolumeAttaching {
		t.Errorf("left %v, the volume is %s", left, now.Status)
	}
	must(t, z.CompleteAttachment(z.ctx, alice, b.ID))
	_, err = z.DeleteAttachment(z.ctx, compute, b.ID)
	must(t, err)
	must(t, z.SetReadonly(z.ctx, alice, v.ID, true))
	_, err = z.CreateAttachment(z.ctx, alice, control.NewAttachment{VolumeID: v.ID, Mode: "rw"})
	wantError(t, "writing", err, block.Invalid, "Invalid attaching mode 'rw' for volume "+string(v.ID)+".")
}

// TestSummary: everybody sees the sums of its own project.
func TestSummary(t *testing.T) {
	z := newZone(t)
	z.make(control.NewVolume{Size: ptr(int64(1)), Metadata: map[string]string{"a": "b"}})
	z.make(control.NewVolume{Size: ptr(int64(2)), Metadata: map[string]string{"a": "c"}})
	for _, tt := range []struct {
		c    block.Caller
		all  bool
		want int64
	}{{alice, false, 2}, {alice, true, 2}, {mallory, true, 0}, {operator, true, 2}} {
		q := block.ListQuery{Project: tt.c.Project}
		if tt.all {
			q.Project = ""
		}
		sum, err := z.Summary(z.ctx, tt.c, q)
		must(t, err)
		if sum.Count != tt.want || len(sum.Metadata["a"]) != int(tt.want) {
			t.Errorf("%v all %v: %+v", tt.c.Roles, tt.all, sum)
		}
	}
	n, err := z.CountVolumes(z.ctx, mallory, block.ListQuery{Project: alice.Project})
	must(t, err)
	m, err := z.CountSnapshots(z.ctx, mallory, block.ListQuery{Project: alice.Project})
	must(t, err)
	if n+m != 0 {
		t.Errorf("another project counts %d and %d", n, m)
	}
}

// TestPathsAreBounded: however often somebody asks, a volume has so many connections and
// attachments and no more, and a host says so much of itself.
func TestPathsAreBounded(t *testing.T) {
	const most = 256
	z := newZone(t)
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	host := func(n int) map[string]any { return map[string]any{"host": strconv.Itoa(n)} }
	for n := range most {
		_, err := z.InitializeConnection(z.ctx, alice, v.ID, host(n))
		must(t, err)
	}
	_, err := z.InitializeConnection(z.ctx, alice, v.ID, host(most))
	wantError(t, "one connection more", err, block.OverLimit, "Volume "+string(v.ID)+" has 256 connections already; "+
		"terminate those that are not used.")
	_, err = z.InitializeConnection(z.ctx, alice, v.ID, host(most-1)) // it is there
	must(t, err)
	must(t, z.TerminateConnection(z.ctx, alice, v.ID, host(0)))
	long := map[string]any{"host": strings.Repeat("x", 16<<10)}
	_, err = z.InitializeConnection(z.ctx, alice, v.ID, long)
	wantError(t, "a long connector", err, block.Invalid,
		"Invalid input received: A connector has at most 16384 bytes, this one has 16395.")

	v = z.make(control.NewVolume{Size: ptr(int64(1))})
	req := control.NewAttachment{VolumeID: v.ID, ServerID: ptr("s")}
	for range most {
		_, err := z.CreateAttachment(z.ctx, alice, req)
		must(t, err)
	}
	_, err = z.CreateAttachment(z.ctx, alice, req)
	wantError(t, "one attachment more", err, block.OverLimit, "Volume "+string(v.ID)+" has 256 attachments already.")
}
