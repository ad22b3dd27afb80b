package realfs

import (
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"kvol/internal/client"
	"kvol/internal/client/nbd"
	"kvol/internal/driver/logstore"
)

// TestFioWhileTheServerIsKilled: fio writes 64 MiB and compares every block,
// while the server is killed (kill -9) again and again and its client, nbdkit's
// retry filter, connects anew. What was acknowledged is there.
func TestFioWhileTheServerIsKilled(t *testing.T) {
	need(t, "fio", "nbdkit")
	dir := t.TempDir()
	s := startServer(t, dir)
	front := filepath.Join(dir, "front.sock")
	kit := exec.Command("nbdkit", "-f", "--exit-with-parent", "-U", front, "--filter=retry", "nbd",
		"socket="+filepath.Join(dir, "server.sock"), "export=vol", "retries=60", "retry-delay=1",
		"retry-exponential=no")
	if err := kit.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kit.Process.Kill(); _ = kit.Wait() }) // it would serve for ever
	url := "nbd+unix:///?socket=" + front
	waitServed(t, url)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := exec.CommandContext(ctx, "fio", "--name=v", "--ioengine=nbd", "--uri="+url, "--rw=randwrite",
			"--bs=4k", "--size=64m", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1", "--fsync=64",
			"--randrepeat=0").CombinedOutput()
		done <- result{out, err}
	}()
	kills := 0
	for ; kills < 3 && s.lines.Scan(); kills++ {
		s.lines.Scan() // further on its way
		s.kill()
		s = startServer(t, dir)
	}
	go func() { // or its pipe fills up
		for s.lines.Scan() {
		}
	}()
	r := <-done
	if r.err != nil {
		t.Fatalf("after %d kills: %v\n%s", kills, r.err, r.out)
	}
	if kills < 3 {
		t.Errorf("the server was killed %d times only", kills)
	}
	t.Logf("%d kills", kills)
	s.kill()
	store, err := logstore.Open(t.Context(), logstore.Options{Dir: filepath.Join(dir, "store"),
		Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// waitServed waits until somebody answers.
func waitServed(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	err := client.Poll(ctx, 20*time.Millisecond, func() (bool, error) {
		c, err := nbd.Dial(ctx, url, nbd.Options{})
		if err != nil {
			return false, nil // not yet
		}
		return true, c.Close()
	})
	if err != nil {
		t.Fatalf("nobody answers: %v", err)
	}
}
