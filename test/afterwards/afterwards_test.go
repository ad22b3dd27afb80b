package afterwards_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"kvol/test/afterwards"
)

const markVariable = "KVOL_AFTERWARDS_MARK"

// TestHelper is the process that TestRun kills.
func TestHelper(t *testing.T) {
	mark := os.Getenv(markVariable)
	if mark == "" {
		t.Skip("it is run by TestRun")
	}
	afterwards.Run(t, "touch", mark)
	fmt.Println("ready")
	time.Sleep(time.Hour)
}

// TestRun kills a test, and finds what was to be done after it.
func TestRun(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHelper$")
	cmd.Env = append(os.Environ(), markVariable+"="+mark)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it was done before the end")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for {
		if _, err := os.Stat(mark); err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("nothing was done")
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// TestOver: nothing is done after a test that ended by itself.
func TestOver(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	t.Run("inner", func(t *testing.T) { afterwards.Run(t, "touch", mark) })
	if _, err := os.Stat(mark); err == nil {
		t.Error("it was done though the test had ended")
	}
}
