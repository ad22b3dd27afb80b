// Package afterwards clears up behind a test that could not: one that was
// killed, or whose time was over.
package afterwards

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// Run runs a command if this process ends before the test does, however that
// comes. It is to be called before what the command clears up is made; a test
// that ends by itself clears up by itself.
func Run(t testing.TB, program string, args ...string) {
	t.Helper()
	r, w, err := os.Pipe() // no other process inherits our end
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// It reads a line, or the end of what nobody can write to any more.
	script := []string{"-c", `read -r over || exec "$@"`, "sh", program}
	cmd := exec.Command("/bin/sh", append(script, args...)...)
	cmd.Stdin, cmd.SysProcAttr = r, &syscall.SysProcAttr{Setsid: true} // a signal to our group is not for it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := w.WriteString("over\n"); err != nil {
			t.Error(err)
		}
		w.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}
