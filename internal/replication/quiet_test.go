package replication

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kvol/internal/catalog"
	"kvol/internal/catalog/catalogtest"
	"kvol/internal/driver"
)

// TestIdleVolumesAskLittle: while nobody writes to a volume, its interval costs
// nothing at the catalog: only heartbeats do. What is written is still found
// within the interval, and what is changed of the volume's row within a
// heartbeat.
func TestIdleVolumesAskLittle(t *testing.T) {
	var loads atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		catalogs := openCatalogs(t, "b")
		c, err := catalog.Open(context.Background(), catalog.Options{Image: catalogtest.Empty(), Observe: func(text string) {
			if strings.Contains(text, "FROM links WHERE volume_id = $1 AND protection = $2") {
				loads.Add(1)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		catalogs["a"] = c
		w := newWorld(t, 1, catalogs)
		w.protect("a", "b", "gold")
		a, b := w.zones["a"], w.zones["b"]
		a.rich, b.rich = true, true
		a.start(0)
		b.start(0)
		a.sender.cfg.Now, b.receiver.cfg.Now = time.Now, time.Now
		id := a.volume("gold", 8)
		a.proc.serve.Go(func() { _ = a.sender.Run(a.proc.ctx) })
		time.Sleep(30 * time.Second)
		before := loads.Load()
		time.Sleep(100 * time.Second)
		interval, heartbeat := w.protections[0].Interval, a.sender.cfg.Heartbeat
		if interval <= 0 || interval > heartbeat/4 {
			t.Fatalf("the interval is %s, a heartbeat %s", interval, heartbeat)
		}
		if n := loads.Load() - before; n > 3*int64(100*time.Second/heartbeat) {
			t.Errorf("the link was read %d times in %d heartbeats", n, 100*time.Second/heartbeat)
		}
		newest := b.replica(id).Newest.ID
		a.write(id, 0, noise(driver.BlockSize))
		time.Sleep(3*interval + 200*time.Millisecond)
		if b.replica(id).Newest.ID == newest {
			t.Error("what was written is not there after three intervals")
		}
		name := "renamed"
		a.update(func(tx *catalog.Tx) error {
			v, err := tx.Volume(id)
			if err == nil {
				v.Name = &name
				err = tx.UpdateVolume(v)
			}
			return err
		})
		time.Sleep(3 * heartbeat)
		if got := b.replica(id).Entry.Volume.Name; got == nil || *got != name {
			t.Errorf("the replica's volume is called %v", got)
		}
		a.proc.cancel()
		b.proc.cancel()
		a.proc.serve.Wait()
		a.sender.stop()
		a.proc.end()
		b.proc.end()
	})
}
