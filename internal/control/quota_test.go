package control_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"kvol/internal/block"
	"kvol/internal/control"
)

func TestQuotas(t *testing.T) {
	z := newZone(t)
	create := func(size int64) error {
		_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: &size})
		z.work(z.ctx)
		return err
	}
	set := func(limits map[string]int64) {
		t.Helper()
		must(t, z.SetQuotas(z.ctx, operator, alice.Project, limits))
	}
	set(map[string]int64{"gigabytes": 5})
	wantError(t, "gigabytes", create(10), block.OverLimit, "VolumeSizeExceedsAvailableQuota: Requested volume or "+
		"snapshot exceeds allowed gigabytes quota. Requested 10G, quota is 5G and 0G has been consumed.")
	must(t, create(2))
	v, err := z.Volumes(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	id := v[0].ID
	wantError(t, "extend", z.ExtendVolume(z.ctx, alice, id, 6), block.OverLimit, "VolumeSizeExceedsAvailableQuota: "+
		"Requested volume or snapshot exceeds allowed gigabytes quota. Requested 4G, quota is 5G and 2G has been consumed.")
	must(t, z.ExtendVolume(z.ctx, alice, id, 3))
	wantError(t, "while it is extended", create(3), block.OverLimit, "VolumeSizeExceedsAvailableQuota: "+
		"Requested volume or snapshot exceeds allowed gigabytes quota. Requested 3G, quota is 5G and 3G has been consumed.")
	_, err = z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: id})
	wantError(t, "snapshots count", err, block.OverLimit, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot "+
		"exceeds allowed gigabytes quota. Requested 3G, quota is 5G and 3G has been consumed.")
	set(map[string]int64{"gigabytes": -1, "snapshots": 0, "volumes": 1})
	_, err = z.CreateSnapshot(z.ctx, alice, control.NewSnapshot{VolumeID: id})
	wantError(t, "snapshots", err, block.OverLimit,
		"SnapshotLimitExceeded: Maximum number of snapshots allowed (0) exceeded")
	wantError(t, "volumes", create(1), block.OverLimit,
		"VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.")
	set(map[string]int64{"volumes": 9, "per_volume_gigabytes": 3})
	wantError(t, "one volume", create(4), block.OverLimit,
		"VolumeSizeExceedsLimit: Requested volume size 4G is larger than maximum allowed limit 3G.")
	wantError(t, "one volume", z.ExtendVolume(z.ctx, alice, id, 4), block.OverLimit,
		"VolumeSizeExceedsLimit: Requested volume size 4G is larger than maximum allowed limit 3G.")
	set(map[string]int64{"volumes_fast": 1, "per_volume_gigabytes": -1})
	wantError(t, "of a type", create(1), block.OverLimit,
		"VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes_fast'.")
	set(map[string]int64{"volumes_fast": 5, "gigabytes_fast": 3})
	wantError(t, "of a type", create(1), block.OverLimit, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot "+
		"exceeds allowed gigabytes_fast quota. Requested 1G, quota is 3G and 3G has been consumed.")
	_, err = z.CreateVolume(z.ctx, mallory, control.NewVolume{Size: ptr(int64(9))})
	must(t, err)
}

func TestQuotaSettings(t *testing.T) {
	z := newZone(t)
	for _, c := range []struct {
		limits map[string]int64
		want   string
	}{
		{map[string]int64{"zz": 1, "yy": 1}, "Invalid input received: Bad key(s) in quota set: yy, zz"},
		{map[string]int64{"volumes": -2}, "volumes must be >= -1"},
		{map[string]int64{"volumes": 1 << 31}, "volumes must be <= 2147483647"},
	} {
		wantError(t, c.want, z.SetQuotas(z.ctx, operator, alice.Project, c.limits), block.Invalid, c.want)
	}
	z.make(control.NewVolume{Size: ptr(int64(2))})
	must(t, z.SetQuotas(z.ctx, operator, alice.Project, map[string]int64{"volumes": 0, "volumes_slow": 7}))
	quotas, err := z.Quotas(z.ctx, alice, alice.Project)
	must(t, err)
	for name, want := range map[string]control.QuotaUse{"volumes": {Limit: 0, InUse: 1},
		"gigabytes":    {Limit: 1000, InUse: 2},
		"volumes_slow": {Limit: 7}, "gigabytes_fast": {Limit: -1, InUse: 2}, "backups": {Limit: 10},
		"per_volume_gigabytes": {Limit: -1}} {
		if quotas[name] != want {
			t.Errorf("%s is %+v, want %+v", name, quotas[name], want)
		}
	}
	must(t, z.DeleteQuotas(z.ctx, operator, alice.Project))
	limits, err := z.Limits(z.ctx, alice)
	must(t, err)
	if limits["volumes"] != (control.QuotaUse{Limit: 10, InUse: 1}) || len(limits) != 5 {
		t.Errorf("limits %v", limits)
	}
	defaults, err := z.QuotaDefaults(z.ctx, alice, alice.Project)
	must(t, err)
	if names := slices.Sorted(maps.Keys(quotas)); !slices.Equal(names, slices.Sorted(maps.Keys(defaults))) ||
		defaults["volumes"] != 10 || defaults["snapshots_twin"] != -1 {
		t.Errorf("defaults %v", defaults)
	}
}

// TestQuotaUnderConcurrency lets many ask at once for more than there is: not
// one gets too much, and all that there is goes out.
func TestQuotaUnderConcurrency(t *testing.T) {
	z := newZone(t)
	var made atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			_, err := z.CreateVolume(z.ctx, alice, control.NewVolume{Size: ptr(int64(1))})
			message, _ := block.UserMessage(err)
			switch {
			case err == nil:
				made.Add(1)
			case !block.Is(err, block.OverLimit) || !strings.HasPrefix(message, "VolumeLimitExceeded: "):
				t.Errorf("refused with %v", err)
			}
		})
	}
	wg.Wait()
	volumes, err := z.Volumes(z.ctx, alice, block.ListQuery{Limit: -1})
	must(t, err)
	if made.Load() != 10 || len(volumes) != 10 {
		t.Errorf("%d volumes were granted, %d exist", made.Load(), len(volumes))
	}
	z.work(z.ctx)
}
