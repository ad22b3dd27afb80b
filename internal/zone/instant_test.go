package zone_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/zone/zonetest"
)

// inTurns writes numbered blocks to several volumes one after the other, each
// when the one before was acknowledged: number n to volume n modulo their count,
// to a place that is written to once.
type inTurns struct {
	conns []*nbd.Conn
	acked atomic.Int64 // writes, of all volumes
}

const turnsFrom = 64 << 20 // where those blocks begin

func (w *inTurns) write(ctx context.Context) error {
	for n := int64(0); ctx.Err() == nil; n++ {
		p := bytes.Repeat(binary.LittleEndian.AppendUint64(nil, uint64(n)+1), zonetest.BlockSize/8)
		i := n % int64(len(w.conns))
		if _, err := w.conns[i].WriteAt(p, turnsFrom+n/int64(len(w.conns))*zonetest.BlockSize); err != nil {
			return err
		}
		w.acked.Store(n + 1)
	}
	return nil
}

// taken is a group snapshot with what was acknowledged before it was asked for.
type taken struct {
	id    string
	turns int64
	own   []int // of each volume's own writer
}

// TestGroupInstantUnderLoad takes group snapshots of volumes that are written to
// by NBD: each by a writer of its own, and all by one that goes from volume to
// volume. A snapshot has a prefix of each writer's writes, with all that were
// acknowledged before it was asked for, and of the last writer's a prefix over
// all volumes: they show one instant.
func TestGroupInstantUnderLoad(t *testing.T) {
	c := newCloud(t)
	group := c.group()
	var volumes, urls []string
	var writers []*zonetest.Writer
	turns := &inTurns{}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	running := 0
	ended := make(chan error, 8)
	dial := func(url string) *nbd.Conn {
		conn, err := nbd.Dial(t.Context(), url, nbd.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	for i := range 3 {
		id := c.volume(`,"volume_type":"ssd","group_id":"` + group + `"`)
		info := c.act(200, id, `{"os-initialize_connection":{"connector":{"host":"h"}}}`)
		url := textAt(info, "connection_info", "data", "url")
		volumes, urls = append(volumes, id), append(urls, url)
		w, conn := zonetest.NewWriter(uint64(i), 256), dial(url)
		writers, turns.conns = append(writers, w), append(turns.conns, dial(url))
		running++
		go func() { ended <- w.Write(ctx, conn, 1<<30) }()
	}
	running++
	go func() { ended <- turns.write(ctx) }()

	var all []taken
	for range 3 { // as many as the quota of snapshots lets
		c.awaitLoad(turns, turns.acked.Load()+50)
		one := taken{turns: turns.acked.Load()}
		for _, w := range writers {
			one.own = append(one.own, w.Acknowledged())
		}
		a := c.want(202, "POST", "group_snapshots", `{"group_snapshot":{"group_id":"`+group+`"}}`)
		one.id = textAt(a, "group_snapshot", "id")
		all = append(all, one)
		c.until("group_snapshots/"+one.id, "group_snapshot", "available")
	}
	c.awaitLoad(turns, turns.acked.Load()+50)
	stop()
	for range running {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	for _, one := range all {
		var conns []*nbd.Conn
		for i, id := range volumes {
			conn := dial(urls[i] + "@" + c.snapshotIn(one.id, id))
			conns = append(conns, conn)
			content := make([]byte, 256*zonetest.BlockSize)
			if _, err := conn.ReadAt(content, 0); err != nil {
				t.Fatal(err)
			}
			if n, err := writers[i].Prefix(content, nil); err != nil || n < one.own[i] {
				t.Errorf("a volume has %d of its writer's writes, %d were acknowledged: %v", n, one.own[i], err)
			}
		}
		if n, err := sameCut(conns, turns.acked.Load()); err != nil || n < one.turns {
			t.Errorf("the volumes have %d of the writes in turns, %d were acknowledged: %v", n, one.turns, err)
		}
	}
}

// awaitLoad waits until so many writes in turns were acknowledged.
func (c *cloud) awaitLoad(w *inTurns, n int64) {
	c.Helper()
	err := client.Poll(c.Context(), 1e6, func() (bool, error) { return w.acked.Load() >= n, nil })
	if err != nil {
		c.Fatal(err)
	}
}

// group makes a group of volumes.
func (c *cloud) group() string {
	c.Helper()
	if code, a := c.ask(c.operatorToken, "", "POST", "group_types", `{"group_type":{"name":"g"}}`); code != 202 {
		c.Fatal(a)
	}
	return textAt(c.want(202, "POST", "groups", `{"group":{"group_type":"g","volume_types":["ssd"]}}`), "group", "id")
}

// snapshotIn finds a volume's snapshot in a group snapshot.
func (c *cloud) snapshotIn(instant, volume string) string {
	c.Helper()
	list, _ := at(c.want(200, "GET", "snapshots/detail?volume_id="+volume, ""), "snapshots").([]any)
	for _, s := range list {
		if textAt(s, "group_snapshot_id") == instant {
			return textAt(s, "id")
		}
	}
	c.Fatalf("group snapshot %s has no snapshot of volume %s: %v", instant, volume, list)
	return ""
}

// sameCut proves that volumes hold the first so many writes in turns, and none
// after.
func sameCut(conns []*nbd.Conn, sent int64) (cut int64, err error) {
	missing := int64(-1)
	p := make([]byte, zonetest.BlockSize)
	for n := range sent + int64(len(conns)) { // beyond what was acknowledged one may have been sent
		off := turnsFrom + n/int64(len(conns))*zonetest.BlockSize
		if _, err := conns[n%int64(len(conns))].ReadAt(p, off); err != nil {
			return 0, err
		}
		switch number := int64(binary.LittleEndian.Uint64(p)); {
		case number == 0 && missing < 0:
			missing = n
		case number == 0:
		case missing >= 0:
			return 0, fmt.Errorf("write %d is there and %d is not", n, missing)
		case number != n+1:
			return 0, fmt.Errorf("write %d stands in the place of %d", number-1, n)
		}
	}
	return missing, nil
}
