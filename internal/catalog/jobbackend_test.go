package catalog

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"kvol/internal/block"
)

// jobsOfBackends enqueues jobs of volumes on some backends, of what belongs to those, and
// of none, and tells on which backend each is.
func jobsOfBackends(t *testing.T, c *Catalog, backends ...string) (jobs map[block.JobID]string) {
	jobs = map[block.JobID]string{}
	commit(t, c, func(tx *Tx) error {
		err := tx.UpsertType(block.VolumeType{ID: "t", Name: "t"})
		for _, backend := range backends {
			id := block.VolumeID(block.NewID())
			err = errors.Join(err, tx.InsertVolume(block.Volume{ID: id, Project: "p", TypeID: "t", Size: 1, Backend: backend,
				Status: block.VolumeAvailable}),
				tx.InsertSnapshot(block.Snapshot{ID: block.SnapshotID("s" + backend), VolumeID: id, Project: "p"}))
			for _, subject := range []string{string(id), string(id) + "/hosts", "s" + backend} {
				job, failed := tx.EnqueueJob(block.Job{Kind: "k", Subject: subject})
				jobs[job], err = backend, errors.Join(err, failed)
			}
		}
		job, failed := tx.EnqueueJob(block.Job{Kind: "k", Subject: "s"})
		jobs[job] = ""
		return errors.Join(err, failed)
	})
	return jobs
}

// claimAll claims all jobs beside those of busy backends, and counts them by the backends
// that they need.
func claimAll(t *testing.T, c *Catalog, busy ...block.Job) map[string]int {
	got := map[string]int{}
	var needs []block.Needs
	for _, j := range busy {
		needs = append(needs, j.Needs())
	}
	commit(t, c, func(tx *Tx) error {
		last := block.JobID(0)
		for {
			j, ok, err := tx.ClaimJob("me", time.Hour, []string{"k"}, needs...)
			if err != nil || !ok {
				return err
			}
			if j.ID < last {
				t.Errorf("job %d was claimed after %d", j.ID, last)
			}
			last = j.ID
			got[strings.TrimSuffix(j.Backend+" "+j.Beside, " ")]++
		}
	})
	return got
}

// needing are jobs that need pairs of backends.
func needing(pairs ...string) (all []block.Job) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, block.Job{Backend: pairs[i], Beside: pairs[i+1]})
	}
	return all
}

// TestClaimOfBackends: jobs of backends that are busy are left to wait, whatever of a
// volume they work on. Those that need another one besides are none of them.
func TestClaimOfBackends(t *testing.T) {
	c := memory(t)
	for id, want := range jobsOfBackends(t, c, "a", "b") {
		look(t, c, func(tx *Tx) error {
			j, err := tx.Job(id)
			if j.Backend != want {
				t.Errorf("job %d is on %q, want %q", id, j.Backend, want)
			}
			return err
		})
	}
	for range 2 {
		for _, need := range [][2]string{{"a", "b"}, {"b", "a"}, {"b", "c"}, {"c", "b"}} {
			enqueue(t, c, block.Job{Kind: "k", Backend: need[0], Beside: need[1]})
		}
	}
	enqueue(t, c, block.Job{Kind: "other", Backend: "b"})
	enqueue(t, c, block.Job{Kind: "k", Backend: "b", RunAt: c.now().Add(time.Hour)})
	for _, step := range []struct {
		busy []block.Job
		want map[string]int
	}{
		{needing("", "", "a", "", "b", "", "a", "b", "b", "a", "b", "c", "c", "b"), map[string]int{}},
		{needing("", "", "a", "", "a", "b"), map[string]int{"b": 3, "b a": 2, "b c": 2, "c b": 2}},
		{needing("a", "", "a", "c"), map[string]int{"": 1, "a b": 2}},
		{nil, map[string]int{"a": 3}},
	} {
		if got := claimAll(t, c, step.busy...); !maps.Equal(got, step.want) {
			t.Errorf("beside %v jobs of %v were claimed, want %v", step.busy, got, step.want)
		}
	}
}

// TestJobsFollowTheirVolume: the jobs of a volume that moves are on its new backend, but
// for those that have to do with the old one.
func TestJobsFollowTheirVolume(t *testing.T) {
	c := memory(t)
	jobsOfBackends(t, c, "a", "b")
	commit(t, c, func(tx *Tx) error {
		s, err := tx.Snapshot("sa")
		if err != nil {
			return err
		}
		v, err := tx.Volume(s.VolumeID)
		if err != nil {
			return err
		}
		_, err = tx.EnqueueJob(block.Job{Kind: "k", Subject: string(v.ID) + "/move", Backend: "a", Beside: "c"})
		_, failed := tx.EnqueueJob(block.Job{Kind: "k", Subject: string(v.ID), Backend: "a"})
		v.Backend = "c"
		return errors.Join(err, failed, tx.UpdateVolume(v))
	})
	want := map[string]int{"": 1, "a": 1, "a c": 1, "b": 3, "c": 3}
	if got := claimAll(t, c); !maps.Equal(got, want) {
		t.Errorf("the jobs are on %v, want %v", got, want)
	}
}

// TestBackendsOfOlderJobs: jobs that were there before the column was are on the
// backends that later ones are on.
func TestBackendsOfOlderJobs(t *testing.T) {
	c := memory(t)
	jobsOfBackends(t, c, "a", "b")
	text, err := migrationFiles.ReadFile("migrations/0340_job_backends.sql")
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.migration("0340_job_backends.sql", string(text))
	if err != nil {
		t.Fatal(err)
	}
	_, all, _ = strings.Cut(all, "UPDATE jobs")
	fill, _, _ := strings.Cut(all, ";")
	commit(t, c, func(tx *Tx) error {
		_, err := tx.exec("UPDATE jobs SET backend = ''")
		if err == nil {
			_, err = tx.exec("UPDATE jobs" + fill)
		}
		return err
	})
	want := map[string]int{"": 1, "a": 3, "b": 3}
	if got := claimAll(t, c); !maps.Equal(got, want) {
		t.Errorf("the jobs are on %v, want %v", got, want)
	}
}

// TestPlanOfClaimBesideBusy: a claim beside busy backends looks at no job but the first
// of each pair of backends.
func TestPlanOfClaimBesideBusy(t *testing.T) {
	sqliteOnly(t)
	look(t, memory(t), func(tx *Tx) error {
		plan, err := collect(tx, func(row scanner) (detail string, err error) {
			var n int
			return detail, row.Scan(&n, &n, &n, &detail)
		}, tx.explain()+tx.dueBeside(), 1, 1, 1, 1, "[]", "[]")
		if err != nil {
			return err
		}
		text := strings.Join(plan, "\n")
		for step, n := range map[string]int{"(backend=? AND beside>?)": 2, "(backend>?)": 2,
			"(backend=? AND beside=? AND due_at<?)": 1} {
			if strings.Count(text, "SEARCH jobs USING INDEX jobs_open_of_backend "+step) != n {
				t.Errorf("the plan lacks %q:\n%s", step, text)
			}
		}
		return nil
	})
}
