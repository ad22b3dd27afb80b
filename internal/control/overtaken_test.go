package control_test

import (
	"context"
	"testing"
	"time"

	"kvol/internal/block"
	"kvol/internal/catalog"
	"kvol/internal/control"
	"kvol/internal/job"
)

// unended runs a job and has its end be lost once: what it committed stays.
type unended struct {
	job.Handler
	lost bool
}

func (u *unended) Run(ctx context.Context, t *job.Task) error {
	err := u.Handler.Run(ctx, t)
	if err == nil && !u.lost {
		u.lost = true
		return job.Snooze(50*time.Millisecond, nil)
	}
	return err
}

// TestOvertakenJobs: a job's work is committed and its end is not, as when its process is
// killed between the two, and the volume's owner goes on: the job leaves the next one's
// work alone, and neither waits for the other.
func TestOvertakenJobs(t *testing.T) {
	for name, tt := range map[string]struct {
		kind        string
		first, then func(*zone, block.VolumeID) error
		want        func(block.Volume) bool
	}{
		"migrate": {"volume.migrate",
			func(z *zone, id block.VolumeID) error {
				return z.MigrateVolume(z.ctx, operator, id, control.Migration{Backend: "slow"})
			},
			func(z *zone, id block.VolumeID) error {
				return z.MigrateVolume(z.ctx, operator, id, control.Migration{Backend: "fast"})
			},
			func(v block.Volume) bool { return v.Backend == "fast" }},
		"retype": {"volume.retype",
			func(z *zone, id block.VolumeID) error {
				return z.RetypeVolume(z.ctx, alice, id, "slow", control.MigrateOnDemand)
			},
			func(z *zone, id block.VolumeID) error {
				return z.RetypeVolume(z.ctx, alice, id, "fast", control.MigrateOnDemand)
			},
			func(v block.Volume) bool { return v.Backend == "fast" && v.TypeName == "fast" }},
		"extend": {"volume.extend",
			func(z *zone, id block.VolumeID) error { return z.ExtendVolume(z.ctx, alice, id, 2) },
			func(z *zone, id block.VolumeID) error { return z.ExtendVolume(z.ctx, alice, id, 3) },
			func(v block.Volume) bool { return v.Size == 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			z := newZone(t)
			v := z.make(control.NewVolume{Size: ptr(int64(1))})
			z.write(v, []byte("abc"), 0)
			must(t, tt.first(z, v.ID))
			handlers := z.Handlers()
			u := &unended{Handler: handlers[tt.kind]}
			handlers[tt.kind] = u
			z.workUntil(z.ctx, handlers, func() bool { return u.lost })
			must(t, tt.then(z, v.ID))
			ctx, stop := context.WithTimeout(z.ctx, time.Minute)
			defer stop()
			ran := map[block.JobID]bool{}
			handlers[tt.kind] = counted{u.Handler, ran}
			z.workUntil(ctx, handlers, func() (over bool) {
				must(t, z.catalog.View(z.ctx, func(tx *catalog.Tx) error {
					_, left, err := tx.NextJobAt()
					over = !left
					return err
				}))
				return over
			})
			z.settled()
			got := z.volume(v.ID)
			if got.Status != block.VolumeAvailable || got.Migrating() || !tt.want(got) || z.content(got, 3) != "abc" ||
				len(ran) != 2 {
				t.Errorf("after %d jobs the volume is %s, %s of %d GiB on %s, %q", len(ran), got.Status, got.TypeName, got.Size,
					got.Backend, got.MigrationStatus)
			}
		})
	}
}

// counted notes which jobs are run.
type counted struct {
	job.Handler
	ran map[block.JobID]bool
}

func (c counted) Run(ctx context.Context, t *job.Task) error {
	c.ran[t.Job.ID] = true
	return c.Handler.Run(ctx, t)
}
