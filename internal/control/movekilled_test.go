package control_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"kvol/internal/block"
	"kvol/internal/control"
	"kvol/internal/driver"
	"kvol/internal/driver/drivertest"
	"kvol/internal/export/nbd"
)

// hostedMove is a move of a volume to which a host writes at each call that the
// move makes of the stores.
type hostedMove struct {
	z     *zone
	id    block.VolumeID
	name  string // of the export
	host  nbd.Export
	steps []string // the calls of both stores so far

	mu     sync.Mutex // held while the host's own calls are made; guards below
	wrote  map[int64]int
	writes int
}

func newHostedMove(z *zone) *hostedMove {
	v := z.make(control.NewVolume{Size: ptr(int64(1))})
	must(z.t, z.Attach(z.ctx, alice, v.ID, control.AttachRequest{HostName: ptr("h")}))
	m := &hostedMove{z: z, id: v.ID, wrote: map[int64]int{}}
	m.name, _ = z.connect(v.ID, map[string]any{"host": "h"})
	var err error
	m.host, err = z.Exports().Open(z.ctx, m.name)
	must(z.t, err)
	must(z.t, z.MigrateVolume(z.ctx, operator, v.ID, control.Migration{Backend: "slow"}))
	return m
}

// watch has the host write at each call, and hit called with each step. A write
// that is not answered may be there or not.
func (m *hostedMove) watch(hit func(n int) error) {
	rule := func(store string) func(drivertest.Call) error {
		return func(c drivertest.Call) error {
			if !m.mu.TryLock() {
				return nil
			}
			defer m.mu.Unlock()
			m.steps = append(m.steps, fmt.Sprint(store, " ", c.Op, " ", c.After))
			if m.writes < 40 && !m.z.Exports().Paused(m.id) {
				p := make([]byte, driver.BlockSize)
				fillBlocks(p, m.writes)
				off := int64(m.writes%7) * (8 << 20)
				if _, err := m.host.Device.WriteAt(p, off); err == nil {
					m.wrote[off] = m.writes
				} else {
					delete(m.wrote, off)
				}
				m.writes++
			}
			return hit(len(m.steps))
		}
	}
	m.z.fast.SetRule(rule("fast"))
	m.z.slow.SetRule(rule("slow"))
}

// check opens the export and looks whether all that was answered is there.
func (m *hostedMove) check() {
	z := m.z
	z.t.Helper()
	m.host.Release()
	x, err := z.Exports().Open(z.ctx, m.name)
	must(z.t, err)
	defer x.Release()
	if len(m.wrote) == 0 {
		z.t.Error("the host wrote nothing")
	}
	p := make([]byte, 20)
	for off, number := range m.wrote {
		if _, err := x.Device.ReadAt(p, off); err != nil || string(p) != fmt.Sprintf("%020d", number) {
			z.t.Errorf("at %d it reads %q, %v; %d was written", off, p, err, number)
		}
	}
	if got := z.volume(m.id); got.Status != block.VolumeInUse || got.Backend != "slow" ||
		got.MigrationStatus != block.MigrationSuccess {
		z.t.Errorf("the volume is %s on %s, %q", got.Status, got.Backend, got.MigrationStatus)
	}
	z.wantStored(string(m.id))
	z.settled()
}

// TestAttachedMoveKilled kills the zone at the last call of each kind that the
// move of an attached volume makes, and at the first that it makes of the store
// to which it goes, before and after it is carried out. The move goes on when the
// zone is back, and what the host was answered is there.
func TestAttachedMoveKilled(t *testing.T) {
	var steps []string
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t)
		m := newHostedMove(z)
		m.watch(func(int) error { return nil })
		z.work(z.ctx)
		z.leaveAlone()
		m.check()
		steps = m.steps
	})
	var kill []int
	for i, step := range steps {
		first, last := !slices.Contains(steps[:i], step), !slices.Contains(steps[i+1:], step)
		if last || first && strings.HasPrefix(step, "slow") {
			kill = append(kill, i+1)
		}
	}
	if len(kill) < 20 {
		t.Fatalf("steps: %v", kill)
	}
	for _, n := range kill {
		t.Run(fmt.Sprint(n, " ", steps[n-1]), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				z := newZone(t)
				m := newHostedMove(z)
				ctx, dies := context.WithCancel(z.ctx)
				defer dies()
				m.watch(func(at int) error {
					if at < n {
						return nil
					}
					dies()
					return context.Canceled
				})
				z.work(ctx)
				z.leaveAlone()
				m.host.Release() // its connection ends with the process
				z.restart()
				z.work(z.ctx)
				m.check()
			})
		})
	}
}
