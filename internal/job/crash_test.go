package job

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// crashPath tells a process that it is the victim of TestKill, and where its
// catalog lies.
const crashPath = "KVOL_TEST_CRASH_CATALOG"

// TestMain turns the process into the victim where it is started as such.
func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		fmt.Fprintln(os.Stderr, victim(context.Background(), path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim enqueues jobs and runs them until it is killed. A line on standard
// output is a promise: the volume and its job are committed.
func victim(ctx context.Context, path string) error {
	c, err := catalog.Open(ctx, catalog.Options{Path: path})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- New(crashConfig(c)).Run(ctx) }()
	for {
		id := block.NewID()
		err := c.Update(ctx, func(tx *catalog.Tx) error {
			err := tx.InsertVolume(block.Volume{ID: block.VolumeID(id), Status: block.VolumeCreating})
			if err == nil {
				_, err = tx.EnqueueJob(block.Job{Kind: "create", Subject: id})
			}
			return err
		})
		if err != nil {
			return err
		}
		fmt.Println(id)
		select {
		case err := <-ended:
			return err
		default:
		}
	}
}

// crashConfig has a lease so long that a job that waits for its end is never
// done within the test.
func crashConfig(c *catalog.Catalog) Config {
	create := func(ctx context.Context, t *Task) error {
		t.Progress("creates", 1, 2)
		return c.Update(ctx, func(tx *catalog.Tx) error {
			v, err := tx.Volume(block.VolumeID(t.Job.Subject))
			if err != nil || v.Status == block.VolumeAvailable {
				return err // repeated after a kill
			}
			_, err = tx.MoveVolume(v.ID, block.Done)
			return err
		})
	}
	return Config{
		Catalog: c, Handlers: map[string]Handler{"create": play{run: create}}, Owner: "victim", Lease: time.Hour,
		Log: slog.New(slog.DiscardHandler),
	}
}

// TestKill kills a process at any moment, again and again, and starts it anew
// on the same catalog. In the end everything that it promised is there, every
// job is done, and no volume is left in a status that should have passed.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalog.db")
	var promised []string
	for range 6 {
		promised = append(promised, killAfter(t, path, 1+rand.IntN(60))...)
	}
	c, err := catalog.Open(t.Context(), catalog.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	left := make(chan struct{}, 1000)
	config := crashConfig(c)
	config.Observe = func(Attempt) { left <- struct{}{} }
	ended := make(chan error, 1)
	go func() { ended <- New(config).Run(ctx) }()
	for open := true; open; {
		if err := c.View(ctx, func(tx *catalog.Tx) (err error) { _, open, err = tx.NextJobAt(); return err }); err != nil {
			t.Fatal(err)
		}
		if open {
			<-left
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wantDone(t, c, promised)
}

func wantDone(t *testing.T, c *catalog.Catalog, promised []string) {
	err := c.View(t.Context(), func(tx *catalog.Tx) error {
		for _, id := range promised {
			if _, err := tx.Volume(block.VolumeID(id)); err != nil {
				t.Errorf("a volume that was promised: %v", err)
			}
		}
		all, err := tx.Volumes(block.ListQuery{Limit: -1})
		for _, v := range all {
			jobs, err := tx.JobsOf(string(v.ID))
			if err != nil {
				return err
			}
			if v.Status != block.VolumeAvailable || len(jobs) != 1 || jobs[0].State != block.JobDone {
				t.Errorf("volume %s is %s, its jobs are %+v", v.ID, v.Status, jobs)
			}
		}
		t.Logf("%d volumes promised, %d there", len(promised), len(all))
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// killAfter starts a victim, kills it after some lines, and returns the lines.
func killAfter(t *testing.T, path string, lines int) (promised []string) {
	t.Helper()
	victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	victim.Env = append(os.Environ(), crashPath+"="+path)
	var complaint strings.Builder
	victim.Stderr = &complaint
	out, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		promised = append(promised, strings.TrimSpace(line))
		if len(promised) == lines {
			if err := victim.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = victim.Wait() // it was killed, which Wait calls an error
	if len(promised) < lines {
		t.Fatalf("the victim ended by itself: %s", complaint.String())
	}
	return promised
}
