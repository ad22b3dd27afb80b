package duty

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

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
	if err != nil {
		return err
	}
	g := gate{dog: dog}
	now, err := uptime()
	if err != nil {
		return err
	}
	if wait := g.enter(); wait != nil {
		return fmt.Errorf("the gate is shut")
	}
	const lease = time.Second
	if err := g.open(now+lease, lease/2); err != nil {
		return err
	}
	switch as {
	case "stopped":
		return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "inside":
		time.Sleep(time.Hour) // select{} is taken for a deadlock, since nothing else goes on here
	case "done":
		g.leave()
	}
	wait := g.enter() // it may be open still: then it is waited for until it is not
	for ; wait == nil; wait = g.enter() {
		g.leave()
		time.Sleep(10 * time.Millisecond)
	}
	for { // past the time at which it would be killed
		if at, err := uptime(); err != nil || at > now+2*lease {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestWatchdog: a process that is stopped, or changes something still when its time
// is over, is killed, by nobody but the kernel; one that changes nothing lives.
func TestWatchdog(t *testing.T) {
	for as, killed := range map[string]bool{"stopped": true, "inside": true, "done": false} {
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
	select {
	case err := <-waits:
		t.Errorf("somebody was let in whose time may be over: %v", err)
	default:
	}
	if err := turn.keepUp(asked); err != nil {
		t.Fatal(err)
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
