package control_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
)

// outrunner writes to a volume twice as much as its move copies, as soon as it
// does, and counts.
type outrunner struct {
	z      *zone
	volume block.VolumeID
	dev    driver.Device
	more   chan int64 // bytes to write
	end    chan struct{}

	mu     sync.Mutex // guards below
	paused int64      // bytes that were copied while hosts waited
	most   int64      // the largest of these
	copied int64
	owed   int64         // bytes that the writer is to write
	over   bool          // the copy is the volume now
	wrote  map[int64]int // block to the last number that was written there
	writes int
}

const (
	outrunBlock = 256 << 10
	outrunStep  = 4 << 20
)

// fillBlocks makes each block of p another one for each number.
func fillBlocks(p []byte, number int) {
	for i := 0; i < len(p); i += driver.BlockSize {
		copy(p[i:], fmt.Sprintf("%020d", number))
	}
}

func (o *outrunner) run() {
	p := make([]byte, outrunBlock)
	for {
		select {
		case <-o.end:
			return
		case n := <-o.more:
			for ; n > 0; n -= outrunBlock {
				o.mu.Lock()
				o.writes++
				number := o.writes
				o.mu.Unlock()
				off := int64(number) % 512 * outrunBlock
				fillBlocks(p, number)
				if _, err := o.dev.WriteAt(p, off); err != nil {
					o.z.t.Error(err)
					return
				}
				o.mu.Lock()
				o.wrote[off] = number
				o.mu.Unlock()
			}
		}
	}
}

// rule sees each write to the copy.
func (o *outrunner) rule(c drivertest.Call) error {
	if c.Volume != o.volume || c.Op != drivertest.OpWrite || !c.After {
		return nil
	}
	o.mu.Lock()
	over := o.over
	o.mu.Unlock()
	if over { // the host writes
		return nil
	}
	paused := o.z.Exports().Paused(o.volume)
	o.mu.Lock()
	o.copied += c.Len
	if paused {
		o.paused += c.Len
	} else {
		o.most, o.paused = max(o.most, o.paused), 0
	}
	o.owed += 2 * c.Len
	send := int64(0)
	if !paused && o.owed >= outrunStep {
		send, o.owed = o.owed, 0
	}
	o.mu.Unlock()
	if send > 0 {
		select {
		case o.more <- send:
		default: // the writer waits for its turn
		}
		synctest.Wait() // until it has written that, or waits
	}
	return nil
}

// TestMoveOutrunsItsWriter moves a volume that a host writes to twice as fast as
// it is copied. The host is slowed down until what is left fits into a pause;
// it loses nothing, and never waits for more than that to be copied.
func TestMoveOutrunsItsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		old := make([]byte, 96<<20)
		fillBlocks(old, -1)
		z.write(v, old, 0)
		name, _ := z.connect(v.ID, map[string]any{"host": "h"})
		x, err := z.Exports().Open(z.ctx, name)
		must(t, err)
		o := &outrunner{z: z, volume: v.ID, dev: x.Device, more: make(chan int64, 1), end: make(chan struct{}),
			wrote: map[int64]int{}}
		go o.run()
		z.slow.SetRule(o.rule)
		z.closer.hold(func() { o.mu.Lock(); defer o.mu.Unlock(); o.over = true })
		must(t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow"}))
		z.work(z.ctx)
		z.leaveAlone()
		synctest.Wait()
		close(o.end)
		if got := z.volume(v.ID); got.Backend != "slow" || got.MigrationStatus != block.MigrationSuccess {
			t.Fatalf("the volume is on %s, %s", got.Backend, got.MigrationStatus)
		}
		o.most = max(o.most, o.paused)
		t.Logf("%d MiB copied, of which %d at most in one pause; the host wrote %d MiB", o.copied>>20, o.most>>20,
			o.writes*outrunBlock>>20)
		if o.most > control.MoveRest {
			t.Errorf("hosts waited for %d bytes to be copied", o.most)
		}
		if o.writes*outrunBlock < 4*control.MoveRest {
			t.Errorf("the host wrote %d times only", o.writes)
		}
		p := make([]byte, 20)
		for off, number := range o.wrote {
			if _, err := x.Device.ReadAt(p, off); err != nil || string(p) != fmt.Sprintf("%020d", number) {
				t.Fatalf("at %d it reads %q, %v; %d was written", off, p, err, number)
			}
		}
		x.Release()
		z.wantStored(string(v.ID))
	})
}

// TestMoveIsOutrun: what changes by itself faster than it is copied stays where
// it is, and its project is told why.
func TestMoveIsOutrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		v := z.make(control.NewVolume{Size: ptr(int64(1))})
		name, _ := z.connect(v.ID, map[string]any{"host": "h"})
		x, err := z.Exports().Open(z.ctx, name)
		must(t, err)
		dev := z.closer.last()
		rounds := byte(0)
		z.fast.SetRule(func(c drivertest.Call) error {
			if c.Op != drivertest.OpCreateSnapshot || c.After {
				return nil
			}
			rounds++
			p := make([]byte, 2*control.MoveRest)
			for i := 0; i < len(p); i += driver.BlockSize {
				p[i] = rounds
			}
			_, err := dev.WriteAt(p, 0)
			return err
		})
		must(t, z.RetypeVolume(z.ctx, alice, v.ID, "slow", control.MigrateOnDemand))
		z.work(z.ctx)
		z.leaveAlone()
		x.Release()
		got := z.volume(v.ID)
		if got.Backend != "fast" || got.TypeName != "fast" || got.Status != block.VolumeAvailable ||
			got.MigrationStatus != block.MigrationError {
			t.Errorf("the volume is %s, %s on %s, %s", got.Status, got.TypeName, got.Backend, got.MigrationStatus)
		}
		z.wantMessage("retype volume:The volume was written to faster than it could be copied.")
		z.wantStored(string(v.ID))
		z.settled()
	})
}
