package duty

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// DefaultLease is how long a process may be silent before others do its work.
const DefaultLease = 10 * time.Second

// MinLease and MaxLease bound Config.Lease.
const (
	MinLease = time.Second
	MaxLease = 5 * time.Minute
)

// ErrLost is why work ends that another process does by now.
var ErrLost = errors.New("the process was silent for too long, and another one of the zone does its work")

// deadFor is for how long a process that died is remembered.
const deadFor = 24 * time.Hour

// settleTime is how long is tried to give back what is held when a process ends.
const settleTime = 5 * time.Second

// Config is what a Keeper needs. Catalog, Name and Log must be set.
type Config struct {
	Catalog *catalog.Catalog
	Name    string // of this process among the zone's, the same after a restart
	URL     string // where the others reach its APIs
	Version string
	Lease   time.Duration // 0 for DefaultLease
	// Guarded is the duty whose time must not be over while this process changes
	// something: the kernel kills it then, also if it is stopped. "" for none.
	Guarded string
	// Place tells the processes of one machine and container from others: those that
	// have it see by their pids which of them are dead. "" to find it out.
	Place string
	Now   func() time.Time // nil for the system's clock; its times must not jump
	Log   *slog.Logger
}

// Keeper is a process among those of its zone. Its methods may be called at once.
type Keeper struct {
	Config
	id       string
	place    string
	stopping atomic.Bool
}

// New makes a Keeper, which is not among the zone's processes before Enter.
func New(c Config) *Keeper {
	c.Lease = cmp.Or(c.Lease, DefaultLease)
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Keeper{Config: c, id: block.NewID(), place: cmp.Or(c.Place, here())}
}

// ID is that of this run of the process.
func (k *Keeper) ID() string { return k.id }

// Enter makes the process one of the zone's.
func (k *Keeper) Enter(ctx context.Context) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if err := k.bury(ctx); err != nil {
		return err
	}
	return k.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		return tx.EnterProcess(catalog.Process{ID: k.id, Name: k.Name, Host: host, Place: k.place, PID: os.Getpid(),
			URL: k.URL, Version: k.Version}, k.Lease)
	})
}

// Stop says to the others, with the next sign of life, that the process ends.
func (k *Keeper) Stop() { k.stopping.Store(true) }

// Leave takes the process out of the zone's, and gives back what it held.
func (k *Keeper) Leave(ctx context.Context) error {
	return k.Catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.LeaveProcess(k.id) })
}

// Run shows that the process lives, until ctx ends. It returns ErrLost when the
// process is not among the zone's any more.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(k.Lease / 3)
	defer tick.Stop()
	for {
		state := catalog.ProcessServing
		if k.stopping.Load() {
			state = catalog.ProcessStopping
		}
		err := k.Catalog.Update(ctx, func(tx *catalog.Tx) error {
			if err := tx.PruneProcesses(tx.Now.Add(-deadFor)); err != nil {
				return err
			}
			return tx.ShowProcess(k.id, k.Name, state, k.Lease)
		})
		if err == nil {
			err = k.bury(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case block.Is(err, block.Stale):
			return fmt.Errorf("%w: %w", ErrLost, err)
		case err != nil:
			k.Log.Warn("the zone's other processes can't be told that this one lives", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// bury takes processes of this machine out of the zone's that have ended without
// a word, so that nobody waits for their time to be over.
func (k *Keeper) bury(ctx context.Context) error {
	var dead []catalog.Process
	err := k.Catalog.View(ctx, func(tx *catalog.Tx) error {
		dead = nil
		all, err := tx.Processes()
		for _, p := range all {
			if p.Live && p.ID != k.id && p.Place == k.place && k.place != "" && ended(p.PID) {
				dead = append(dead, p)
			}
		}
		return err
	})
	if err != nil || len(dead) == 0 {
		return err
	}
	return k.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		for _, p := range dead {
			if err := tx.LeaveProcess(p.ID); err != nil {
				return err
			}
			k.Log.Warn("a process of the zone has ended without a word", "process", p.Name, "pid", p.PID)
		}
		return nil
	})
}

// ended reports whether there is no process with a pid, or it is this one: then it
// was an earlier one's.
func ended(pid int) bool {
	return pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// here tells one machine and container from others: the boot, and the kernel's
// name of the room in which pids are counted. "" where that is unknown.
func here() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	room, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + room
}

// Do waits until this process has a duty and then lets work do it, with a context
// whose Updates are made only while it is held, and which ends when it is lost:
// Do returns ErrLost then. When work returns by itself, the duty is given back.
func (k *Keeper) Do(ctx context.Context, name string, work func(context.Context, *Turn) error) error {
	t, err := k.take(ctx, name)
	if err != nil || t == nil {
		return err
	}
	defer func() {
		if err := t.gate.end(); err != nil {
			k.Log.Warn("the watchdog of a duty can't be called off", "duty", name, "err", err)
		}
	}()
	working, cancel := context.WithCancelCause(catalog.Holding(ctx, t.hold))
	defer cancel(nil)
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var renewer sync.WaitGroup
	renewer.Go(func() { t.renew(renewing, cancel) })
	err = work(working, t)
	stop()
	renewer.Wait()
	if t.lost.Load() {
		return errors.Join(ErrLost, err)
	}
	settling, done := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer done()
	failed := k.Catalog.Update(settling, func(tx *catalog.Tx) error { return tx.ReleaseDuty(t.hold) })
	if failed != nil {
		k.Log.Warn("a duty could not be given back", "duty", name, "err", failed)
	}
	return err
}

// Always does a duty whenever this process has it, until ctx ends.
func (k *Keeper) Always(ctx context.Context, name string, work func(context.Context) error) error {
	for ctx.Err() == nil {
		err := k.Do(ctx, name, func(ctx context.Context, _ *Turn) error { return work(ctx) })
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrLost) {
			return err
		}
	}
	return nil
}

// take waits for a duty; nil when ctx ends. What a silent process holds is taken
// only after its time is over and the catalog could be reached for half of that:
// when a database comes back, those that work go on first.
func (k *Keeper) take(ctx context.Context, name string) (*Turn, error) {
	var since time.Time // when the catalog began to answer; zero while it doesn't
	for {
		stirred := k.Catalog.Stirred()
		var d catalog.Duty
		began := k.Now()
		err := k.Catalog.View(ctx, func(tx *catalog.Tx) (err error) {
			d, err = tx.Duty(name)
			return err
		})
		now := k.Now()
		switch {
		case err != nil:
			since = time.Time{}
		case since.IsZero(), now.Sub(began) > k.Lease/4: // it stood still meanwhile
			since = now
		}
		if err == nil && (d.Holder == "" || !d.Live && now.Sub(since) >= k.Lease/2) {
			t, err := k.tryTake(ctx, name)
			if t != nil {
				return t, nil
			}
			if err != nil && ctx.Err() == nil {
				k.Log.Warn("a duty can't be taken", "duty", name, "err", err)
			}
		}
		pause := time.NewTimer(k.Lease / 20)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil, nil
		case <-pause.C:
		case <-stirred:
			pause.Stop()
		}
	}
}

func (k *Keeper) tryTake(ctx context.Context, name string) (t *Turn, err error) {
	began := k.Now()
	asked, err := uptime()
	if err != nil {
		return nil, err
	}
	err = k.Catalog.Update(ctx, func(tx *catalog.Tx) error {
		h, ok, err := tx.TakeDuty(name, k.id, k.Lease)
		if t = nil; ok {
			t = newTurn(k, h, began)
		}
		return err
	})
	if err != nil || t == nil {
		return nil, err
	}
	if name == k.Guarded {
		if t.gate.dog, err = newWatchdog(); err != nil {
			k.Log.Warn("this process is not killed if it stands still for longer than its lease", "err", err)
		}
	}
	if _, err := t.keepUp(asked); err != nil { // who is late renews at once
		return nil, errors.Join(err, t.gate.end())
	}
	return t, nil
}
