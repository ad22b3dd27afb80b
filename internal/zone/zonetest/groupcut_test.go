package zonetest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone/zonetest"
)

// rounds writes numbers to volumes in turn, one after the other, each to a block
// of its own until all were written, until it is stopped. written is the last one.
func rounds(ctx context.Context, conns []*nbd.Conn, blocks int, written *atomic.Int64) error {
	p := make([]byte, zonetest.BlockSize)
	for n := 1; ctx.Err() == nil; n++ {
		binary.LittleEndian.PutUint64(p, uint64(n))
		at := n / len(conns) % blocks
		if _, err := conns[n%len(conns)].WriteAt(p, int64(at)*zonetest.BlockSize); err != nil {
			return err
		}
		written.Store(int64(n))
	}
	return nil
}

// TestGroupIsOneInstantUnderLoad: while numbers are written to the volumes of a
// group in turn, its zone is killed. What is recovered has all numbers up to
// one, in all volumes, and none beyond: one cut, though their points came one by
// one.
func TestGroupIsOneInstantUnderLoad(t *testing.T) {
	t.Parallel()
	const blocks, volumes = 64, 3
	c := zonetest.NewWith(t, replicatedTypes)
	all := protect(t, c, volumes)
	group := c.Grouped(t, source, all)
	there := c.Session(to, zonetest.Alice)
	var conns []*nbd.Conn
	for _, j := range all {
		conn := c.Open(source, j.Volume)
		conns = append(conns, conn)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	var written atomic.Int64
	go func() { ended <- rounds(ctx, conns, blocks, &written) }()
	seen := map[string]bool{}
	req := client.Recovery{Scope: client.RecoveryScope{Group: group}, DryRun: true}
	if err := client.Poll(t.Context(), 20*time.Millisecond, func() (bool, error) {
		_, f, err := there.Recover(t.Context(), req)
		if client.IsStatus(err, 404) || client.IsStatus(err, 503) {
			return false, nil
		}
		for _, g := range f.Groups {
			if g.Cut != nil && g.Volumes == volumes && g.Cut.Members == volumes && g.Cut.Of == volumes {
				seen[g.Cut.ID] = true
			}
		}
		return len(seen) >= 5, err
	}); err != nil {
		t.Fatalf("%d cuts: %v", len(seen), err)
	}
	c.Kill(source)
	stop()
	<-ended // its last write may have failed
	for _, conn := range conns {
		_ = conn.Close()
	}
	req.DryRun, req.AcceptLoss = false, true
	op, _, err := there.Recover(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	d, err := there.WaitDurable(t.Context(), op.ID, nil)
	if err != nil || d.Status != "succeeded" {
		t.Fatalf("%+v, %v", d, err)
	}
	content := make([][]byte, volumes)
	for i, j := range all {
		for _, step := range d.Steps {
			if step.Source == j.Volume {
				content[i] = readAll(t, c, step.NewVolume, blocks)
			}
		}
	}
	if err := onePrefix(content, blocks); err != nil {
		t.Error(err)
	}
}

func readAll(t *testing.T, c *zonetest.Cloud, volume string, blocks int) []byte {
	t.Helper()
	conn := c.Open(to, volume)
	defer conn.Close()
	p := make([]byte, blocks*zonetest.BlockSize)
	if _, err := conn.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	return p
}

// onePrefix checks that volumes hold what the first writes of rounds leave. The
// first blocks held something else before.
func onePrefix(content [][]byte, blocks int) error {
	number := func(volume, b int) int {
		return int(binary.LittleEndian.Uint64(content[volume][b*zonetest.BlockSize:]))
	}
	newest, limit := 0, 1<<40 // random content of before is beyond any number
	for i := range content {
		for b := range blocks {
			if n := number(i, b); n < limit {
				newest = max(newest, n)
			}
		}
	}
	if newest < 2*blocks*len(content) {
		return errors.New("too little was written to tell")
	}
	want := map[[2]int]int{}
	for n := newest; n > newest-blocks*len(content); n-- {
		want[[2]int{n % len(content), n / len(content) % blocks}] = n
	}
	for k, n := range want {
		if got := number(k[0], k[1]); got != n {
			return errors.New("the volumes are not of one instant")
		}
	}
	return nil
}
