package duty

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"kvol/internal/catalog"
)

// victimAs tells a process that it is the victim of TestWatchdog, and which.
const victimAs = "KVOL_TEST_DUTY_VICTIM"

// TestMain turns the process into the victim where it is started as such.
func TestMain(m *testing.M) {
	if as := os.Getenv(victimAs); as != "" {
		if err := victim(as); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// victim holds a duty that nobody renews.
func victim(as string) error {
	dog, err := newWatchdog()
	if as == "first" {
		if !errors.Is(err, errInit) {
			return fmt.Errorf("process %d has a watchdog: %w", os.Getpid(), err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	g := gate{dog: dog}
	if wait := g.enter(); wait != nil {
		return errors.New("the gate is shut")
	}
	now, err := uptime()
	if err != nil {
		return err
	}
	switch as {
	case "stopped":
		if err := g.openSoon(time.Second); err != nil {
			return err
		}
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "inside":
		if err := g.openSoon(time.Second); err != nil {
			return err
		}
		time.Sleep(time.Hour) // select{} is taken for a deadlock, since nothing else goes on here
		return nil
	case "done":
		return g.done()
	}
	// late
	if late, err := g.open(now-time.Second, time.Millisecond); err != nil || !late {
		return fmt.Errorf("late: %v, %w", late, err)
	}
	return g.calm()
}

// openSoon opens the gate for a lease of which some is left, however slow this is.
func (g *gate) openSoon(lease time.Duration) error {
	for {
		now, err := uptime()
		if err != nil {
			return err
		}
		if late, err := g.open(now+lease, lease/2); !late {
			return err
		}
	}
}

// done leaves, and waits until the gate is shut, long before somebody is killed.
func (g *gate) done() error {
	now, err := uptime()
	if err != nil {
		return err
	}
	const lease = time.Hour
	if late, err := g.open(now+lease, lease-10*time.Millisecond); err != nil {
		return err
	} else if armed, err := g.dog.armed(); err != nil || armed == late {
		return fmt.Errorf("armed: %v, late: %v, %w", armed, late, err)
	}
	g.leave()
	for wait := g.enter(); wait == nil; wait = g.enter() {
		g.leave()
		time.Sleep(10 * time.Millisecond)
	}
	return g.calm()
}

// calm is nil if the gate is shut and nobody is going to be killed.
func (g *gate) calm() error {
	if wait := g.enter(); wait == nil {
		return errors.New("the gate is open")
	}
	if armed, err := g.dog.armed(); err != nil || armed {
		return fmt.Errorf("armed: %v, %w", armed, err)
	}
	return nil
}

// armed reports whether the process is going to be killed.
func (w *watchdog) armed() (bool, error) {
	var left itimerspec
	_, _, failed := unix.Syscall(unix.SYS_TIMER_GETTIME, uintptr(w.id), uintptr(unsafe.Pointer(&left)), 0)
	if failed != 0 {
		return false, failed
	}
	return left.value.Nano() != 0, nil
}

// TestWatchdog: a process that is stopped, or changes something still when its time
// is over, is killed, by nobody but the kernel; one that changes nothing lives, and
// so does one whose renewal took longer than what it is for.
func TestWatchdog(t *testing.T) {
	for as, killed := range map[string]bool{"stopped": true, "inside": true, "done": false, "late": false} {
		t.Run(as, func(t *testing.T) {
			t.Parallel()
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), victimAs+"="+as)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(bufio.NewReader(out)) // it ends with the process
			err = cmd.Wait()
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if killed != (status.Signaled() && status.Signal() == syscall.SIGKILL) || !killed && err != nil {
				t.Errorf("it ended with %v: %s", err, said)
			}
		})
	}
}

// TestFirst: a process that is the first of a container is told that it has no
// watchdog, since the kernel would not kill it.
func TestFirst(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimAs+"=first")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("containers may not be made here: %v", err)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestEnter: changes are let in while a duty is held, and refused when it is lost.
func TestEnter(t *testing.T) {
	c, err := catalog.Open(t.Context(), catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := New(Config{Catalog: c, Name: "a", Lease: time.Hour, Guarded: "lead", Log: slog.New(slog.DiscardHandler)})
	turn, err := k.tryTake(t.Context(), "lead")
	if err != nil || turn == nil {
		t.Fatal(err)
	}
	defer turn.gate.end() //nolint:errcheck // it ended well below
	if err := turn.Enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	turn.gate.shut()
	waits := make(chan error, 1)
	go func() { waits <- turn.Enter(t.Context()) }()
	asked, err := uptime()
	if err != nil {
		t.Fatal(err)
	}
	if wait := turn.gate.enter(); wait == nil {
		t.Error("somebody was let in whose time may be over")
	}
	if late, err := turn.keepUp(asked - 2*time.Hour); err != nil || !late || turn.gate.enter() == nil {
		t.Errorf("a renewal that took longer than the lease: late %v, %v", late, err)
	}
	if late, err := turn.keepUp(asked); err != nil || late {
		t.Fatal(late, err)
	}
	if err := <-waits; err != nil {
		t.Error(err)
	}
	turn.Leave()
	turn.Leave()
	turn.gate.shut()
	go func() { waits <- turn.Enter(t.Context()) }()
	turn.lost.Store(true)
	turn.change()
	if err := <-waits; err == nil {
		t.Error("somebody was let in after the duty was lost")
	}
	if err := turn.gate.end(); err != nil {
		t.Error(err)
	}
}
