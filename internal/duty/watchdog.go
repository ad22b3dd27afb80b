package duty

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watchdog is a timer of the kernel's that kills the process unless it is put off:
// also one that is stopped, swapped out or starved, and could not end itself. Its
// clock (CLOCK_BOOTTIME) goes on while the machine sleeps.
type watchdog struct{ id int32 }

// sigevent is struct sigevent of Linux (include/uapi/asm-generic/siginfo.h).
type sigevent struct {
	value  uint64
	signo  int32
	notify int32 // 0: a signal to the process
	_      [48]byte
}

// itimerspec is struct itimerspec of Linux.
type itimerspec struct{ interval, value unix.Timespec }

// errInit says why the watchdog can't be of use: a process that is the first of its
// pid namespace ignores all signals from within, SIGKILL too (pid_namespaces(7)).
var errInit = errors.New("the kernel does not kill process 1 of a container: run it under an init there")

func newWatchdog() (*watchdog, error) {
	if os.Getpid() == 1 {
		return nil, errInit
	}
	w, event := &watchdog{}, sigevent{signo: int32(unix.SIGKILL)}
	_, _, failed := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&event)),
		uintptr(unsafe.Pointer(&w.id)))
	if failed != 0 {
		return nil, fmt.Errorf("timer_create: %w", failed)
	}
	return w, nil
}

// killAt has the process killed at a time of uptime's; 0 for never.
func (w *watchdog) killAt(at time.Duration) error {
	const absolute = 1 // TIMER_ABSTIME
	spec := itimerspec{value: unix.NsecToTimespec(at.Nanoseconds())}
	_, _, failed := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(w.id), absolute, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if failed != 0 {
		return fmt.Errorf("timer_settime: %w", failed)
	}
	return nil
}

func (w *watchdog) close() error {
	if _, _, failed := unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(w.id), 0, 0); failed != 0 {
		return fmt.Errorf("timer_delete: %w", failed)
	}
	return nil
}

// uptime is the watchdog's clock.
func uptime() (time.Duration, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, err
	}
	return time.Duration(now.Nano()), nil
}

// gate lets those through who change what other processes can change too, as long
// as this process surely holds a duty. When the time is nearly over without a
// renewal, nobody is let in any more; as soon as all are out, the watchdog has
// nothing to fear. If some are still in when the time is over, it kills.
type gate struct {
	dog *watchdog // nil: nobody is killed

	mu     sync.Mutex // guards below
	inside int
	opened chan struct{} // nil while it is open; closed when it opens
	ends   *time.Timer   // shuts it
}

// open opens the gate until a spare time before a time of uptime's. It is late when
// that is over already: the gate is shut then, and the watchdog is not told of a
// time in the past, at which it would kill at once, but to no end.
func (g *gate) open(until, spare time.Duration) (late bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, err := uptime()
	if err != nil {
		return false, err
	}
	length := until - spare - now
	if length <= 0 {
		g.close()
		return true, nil
	}
	if g.dog != nil {
		if err := g.dog.killAt(until); err != nil {
			return false, err
		}
	}
	if g.ends == nil {
		g.ends = time.AfterFunc(length, g.shut)
	} else {
		g.ends.Reset(length)
	}
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
	return false, nil
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close()
}

// close is shut for who has locked mu.
func (g *gate) close() {
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	g.rest()
}

// rest calls the watchdog off when nobody is inside who could change anything.
func (g *gate) rest() {
	if g.opened != nil && g.inside == 0 && g.dog != nil {
		_ = g.dog.killAt(0) // it then kills, which is safe
	}
}

// enter lets somebody in; wait is not nil if he has to wait for it before he tries
// again.
func (g *gate) enter() (wait <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.inside++
	}
	return g.opened
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.rest()
}

// end calls the watchdog off for good.
func (g *gate) end() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ends != nil {
		g.ends.Stop()
	}
	if g.dog == nil {
		return nil
	}
	dog := g.dog
	g.dog = nil
	return dog.close()
}
