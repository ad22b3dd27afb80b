package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"kvol/cmd/kvol/demo"
	"kvol/internal/client"
	"kvol/internal/client/nbd"
)

// zones measures what needs whole zones: recovery, and long lists.
func (b *bench) zones(ctx context.Context) error {
	dir := filepath.Join(b.dir, "zones")
	t, stop, err := b.demo(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	if err := raiseQuotas(ctx, t); err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		size int64
	}{{"1 GiB", 1}, {"1 TiB", 1 << 10}, {"16 TiB", 16 << 10}} {
		took, err := b.recoveries(ctx, t, c.size)
		if err != nil {
			return err
		}
		b.limit("recovery of "+c.name+", from the call to a write through its export", took, time.Second)
	}
	took, err := b.list(ctx, t)
	if err != nil {
		return err
	}
	b.limit("GET volumes/detail of 1,000 volumes", took, 50*time.Millisecond)
	return nil
}

// demo plays the demo and keeps its zones.
func (b *bench) demo(ctx context.Context, dir string) (*demo.Topology, func(), error) {
	cmd := exec.CommandContext(ctx, b.exe, "demo", "--keep", "--dir", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}
	held := false
	for lines := bufio.NewScanner(out); !held && lines.Scan(); {
		held = strings.HasPrefix(lines.Text(), "Every comparison held.")
	}
	text, err := os.ReadFile(filepath.Join(dir, "demo.json"))
	if err != nil || !held {
		stop()
		return nil, nil, fmt.Errorf("the demo did not hold: %w", err)
	}
	t := &demo.Topology{}
	if err := json.Unmarshal(text, t); err != nil {
		stop()
		return nil, nil, err
	}
	return t, stop, nil
}

// The users and zones of the demo, as indexes.
const (
	admin, alice = 0, 1
	kilo1, kilo2 = 1, 2
)

func login(ctx context.Context, t *demo.Topology, zone, user int) (*client.Session, error) {
	z, u := t.Zones[zone], t.Users[user]
	return client.Login(ctx, client.Auth{URL: z.IdentityURL, User: u.Name, Password: u.Password, Project: u.ProjectID,
		Region: z.Region})
}

func raiseQuotas(ctx context.Context, t *demo.Topology) error {
	for zone := range t.Zones {
		s, err := login(ctx, t, zone, admin)
		if err != nil {
			return err
		}
		if err := s.SetQuotas(ctx, t.Users[alice].ProjectID, map[string]int64{"volumes": -1, "gigabytes": -1}); err != nil {
			return err
		}
	}
	return nil
}

// recoveries makes a volume of so many GiB in kilo1, writes to it, and recovers
// it in kilo2 as often as there are rounds.
func (b *bench) recoveries(ctx context.Context, t *demo.Topology, size int64) ([]time.Duration, error) {
	s, err := login(ctx, t, kilo1, alice)
	if err != nil {
		return nil, err
	}
	v, err := s.CreateVolume(ctx, client.NewVolume{Name: "bench", Size: size})
	if err != nil {
		return nil, err
	}
	if _, err := s.WaitVolume(ctx, v.ID, nil, "available"); err != nil {
		return nil, err
	}
	if err := writeSome(ctx, s, v.ID); err != nil {
		return nil, err
	}
	operator, err := login(ctx, t, kilo2, admin)
	if err != nil {
		return nil, err
	}
	written := time.Now()
	err = client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		replicas, err := operator.ReplicasOf(ctx, "kilo1", v.ID)
		if client.IsStatus(err, http.StatusNotFound) {
			return false, nil
		}
		return len(replicas) > 0 && replicas[0].ReplicatedUpTo.After(written), err
	})
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for range b.rounds {
		one, err := recoverOnce(ctx, t, v.ID)
		if err != nil {
			return nil, err
		}
		took = append(took, one)
	}
	return took, nil
}

var connector = map[string]any{"host": "bench"}

// writeSome writes 16 MiB all over a volume.
func writeSome(ctx context.Context, s *client.Session, id string) error {
	info, err := s.Connect(ctx, id, connector)
	if err != nil {
		return err
	}
	c, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
	if err != nil {
		return err
	}
	p := make([]byte, 4096)
	for i := range int64(4096) {
		p[0], p[1] = byte(i), 1
		if _, err := c.WriteAt(p, i*(c.Size()/4096)/4096*4096); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return err
	}
	if err := c.Close(); err != nil {
		return err
	}
	return s.Disconnect(ctx, id, connector)
}

// recoverOnce times one recovery: call, status SUCCESS, connection, a write.
func recoverOnce(ctx context.Context, t *demo.Topology, volume string) (time.Duration, error) {
	s, err := login(ctx, t, kilo2, alice)
	if err != nil {
		return 0, err
	}
	k, err := client.KvolLogin(ctx, t.Zones[kilo2].URL, t.KvolUser, t.KvolPass)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	rowkey, err := k.Recovery(ctx, client.Elsewhere{SrcZone: "kilo1", SrcType: t.Zones[kilo1].VolumeTypes["ssd_general"],
		Volume: volume, DstZone: "kilo2", DstProject: t.Users[alice].ProjectID,
		DstType: t.Zones[kilo2].VolumeTypes["ssd_general"]})
	if err != nil {
		return 0, err
	}
	job, err := k.Wait(ctx, "recovery", rowkey, nil)
	if err != nil {
		return 0, err
	}
	info, err := s.Connect(ctx, *job.NewVolumeID, connector)
	if err != nil {
		return 0, err
	}
	c, err := nbd.Dial(ctx, info.NBDURL(), nbd.Options{})
	if err != nil {
		return 0, err
	}
	if _, err := c.WriteAt(make([]byte, 4096), 0); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, c.Close()
}

// list times GET volumes/detail of 1,000 volumes.
func (b *bench) list(ctx context.Context, t *demo.Topology) ([]time.Duration, error) {
	s, err := login(ctx, t, kilo2, alice)
	if err != nil {
		return nil, err
	}
	have, err := s.Volumes(ctx, false)
	if err != nil {
		return nil, err
	}
	for i := len(have); i < 1000; i++ {
		if _, err := s.CreateVolume(ctx, client.NewVolume{Name: fmt.Sprint("list-", i), Size: 1}); err != nil {
			return nil, err
		}
	}
	base, err := s.URL("volumev2")
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for range b.rounds * 4 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/volumes/detail?limit=1000", nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("X-Auth-Token", s.Token)
		began := time.Now()
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		took = append(took, time.Since(began))
		if n := strings.Count(string(text), `"os-vol-tenant-attr:tenant_id"`); err != nil || n != 1000 {
			return nil, fmt.Errorf("the list has %d volumes: %w", n, err)
		}
	}
	return took, nil
}
