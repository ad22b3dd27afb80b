package control

import (
	"context"
	"maps"
	"slices"
	"strings"

	"kvol/internal/block"
	"kvol/internal/catalog"
)

// limitsOf returns what bounds a project: its own settings over those of the
// default class, these over the defaults, and no bound for what none names.
func limitsOf(tx *catalog.Tx, project block.ProjectID) (func(resource string) int64, error) {
	set, err := tx.EffectiveQuotas(project)
	if err != nil {
		return nil, err
	}
	return func(resource string) int64 {
		if n, ok := set[resource]; ok {
			return n
		}
		return unset(resource)
	}, nil
}

// unset is the limit of a resource for which none was ever set.
func unset(resource string) int64 {
	if n, ok := block.DefaultQuotas[resource]; ok {
		return n
	}
	return block.Unlimited
}

// volumeDelta is what a new volume, or the growth of one, takes.
func volumeDelta(count, gib int64, typeName string) block.Usage {
	return typed(block.Usage{"volumes": count, "gigabytes": gib}, typeName)
}

// snapshotDelta is what a new snapshot takes.
func snapshotDelta(gib int64, typeName string) block.Usage {
	return typed(block.Usage{"snapshots": 1, "gigabytes": gib}, typeName)
}

// snapshotsDelta is what some snapshots of volumes of one type take.
func snapshotsDelta(snapshots []block.Snapshot, typeName string) block.Usage {
	u := block.Usage{"snapshots": int64(len(snapshots)), "gigabytes": 0}
	for _, sn := range snapshots {
		u["gigabytes"] += sn.Size
	}
	return typed(u, typeName)
}

func typed(u block.Usage, typeName string) block.Usage {
	if typeName != "" {
		for _, resource := range slices.Collect(maps.Keys(u)) {
			u[resource+"_"+typeName] = u[resource]
		}
	}
	return u
}

// checkQuota refuses a delta that a project has no room for, in the
// transaction that adds it: there is one writer, so two requests can't both
// take the last of it. The sentences and their order are those of
// cinder/quota_utils.py process_reserve_over_quota.
func checkQuota(tx *catalog.Tx, project block.ProjectID, delta block.Usage) error {
	limit, err := limitsOf(tx, project)
	if err != nil {
		return err
	}
	used, err := usageFor(tx, project, delta)
	if err != nil {
		return err
	}
	over := block.Exceeded(used, delta, limit)
	for _, name := range over {
		if name == "backup_gigabytes" {
			return block.Errorf(block.OverLimit, "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed "+
				"Backup gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.",
				delta[name], limit(name), used[name])
		}
		if name == "gigabytes" || strings.HasPrefix(name, "gigabytes_") {
			return block.Errorf(block.OverLimit, "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds "+
				"allowed %s quota. Requested %dG, quota is %dG and %dG has been consumed.",
				name, delta[name], limit(name), used[name])
		}
	}
	if len(over) == 0 {
		return nil
	}
	if name := over[0]; name == "volumes" || strings.HasPrefix(name, "volumes_") {
		return block.Errorf(block.OverLimit, "VolumeLimitExceeded: Maximum number of volumes allowed (%d) "+
			"exceeded for quota '%s'.", limit(name), name)
	}
	if over[0] == "backups" {
		return block.Errorf(block.OverLimit, "BackupLimitExceeded: Maximum number of backups allowed (%d) exceeded",
			limit(over[0]))
	}
	return block.Errorf(block.OverLimit, "SnapshotLimitExceeded: Maximum number of snapshots allowed (%d) exceeded",
		limit(over[0]))
}

// usageFor counts what a delta adds to.
func usageFor(tx *catalog.Tx, project block.ProjectID, delta block.Usage) (block.Usage, error) {
	for _, elsewhere := range []string{"backups", "backup_gigabytes", "groups"} {
		if _, ok := delta[elsewhere]; ok {
			return tx.Usage(project)
		}
	}
	return tx.VolumeUsage(project)
}

// checkVolumeSize keeps per_volume_gigabytes.
func checkVolumeSize(tx *catalog.Tx, project block.ProjectID, size int64) error {
	limit, err := limitsOf(tx, project)
	if err != nil {
		return err
	}
	if most := limit("per_volume_gigabytes"); most != block.Unlimited && size > most {
		return block.Errorf(block.OverLimit, "VolumeSizeExceedsLimit: Requested volume size %dG is larger than "+
			"maximum allowed limit %dG.", size, most)
	}
	return nil
}

// Limits returns the caller's project's limits and use.
func (s *Service) Limits(ctx context.Context, c block.Caller) (Limits, error) {
	all, err := s.quotas(ctx, c.Project)
	if err != nil {
		return nil, err
	}
	limits := Limits{}
	for _, name := range []string{"volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes"} {
		limits[name] = all[name]
	}
	return limits, nil
}

// Quotas returns a project's quota, one entry for each resource and for each
// with a type's name behind it. Others' quotas are for administrators.
func (s *Service) Quotas(ctx context.Context, c block.Caller, project block.ProjectID) (map[string]QuotaUse, error) {
	if err := mayShowQuotas(c, project); err != nil {
		return nil, err
	}
	return s.quotas(ctx, project)
}

func mayShowQuotas(c block.Caller, project block.ProjectID) error {
	return authorize(c, "volume_extension:quotas:show", readersRule, owned(project, ""))
}

func (s *Service) quotas(ctx context.Context, project block.ProjectID) (map[string]QuotaUse, error) {
	all := map[string]QuotaUse{}
	err := s.catalog.View(ctx, func(tx *catalog.Tx) error {
		limit, err := limitsOf(tx, project)
		if err != nil {
			return err
		}
		used, err := tx.Usage(project)
		if err != nil {
			return err
		}
		names, err := resources(tx)
		for _, name := range names {
			all[name] = QuotaUse{Limit: limit(name), InUse: used[name]}
		}
		return err
	})
	return all, err
}

// resources lists the names that a quota may bound.
func resources(tx *catalog.Tx) ([]string, error) {
	names := slices.Sorted(maps.Keys(block.DefaultQuotas))
	types, err := tx.Types(block.ListQuery{Limit: -1}, true)
	for _, t := range types {
		names = append(names, "volumes_"+t.Name, "gigabytes_"+t.Name, "snapshots_"+t.Name)
	}
	return names, err
}

// QuotaDefaults returns the limits that a project has without settings of its
// own, to those who may know the project's quota.
func (s *Service) QuotaDefaults(ctx context.Context, c block.Caller, project block.ProjectID) (map[string]int64,
	error) {
	if err := mayShowQuotas(c, project); err != nil {
		return nil, err
	}
	return s.quotaClass(ctx, catalog.DefaultQuotaClass)
}

// SetQuotas sets some of a project's limits, for administrators. A limit that
// the project has already can't be set below what is in use; one that it has
// not can, and then nothing more is given out (cinder/api/contrib/quotas.py,
// _validate_existing_resource, which looks only at the former).
func (s *Service) SetQuotas(ctx context.Context, c block.Caller, project block.ProjectID,
	limits map[string]int64) error {
	if err := mustAdminister(c, "volume_extension:quotas:update"); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error {
		if err := first(checkLimits(tx, "quota set", limits), checkLowered(tx, project, limits)); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(limits)) {
			if err := tx.SetQuota(project, name, limits[name]); err != nil {
				return err
			}
		}
		return nil
	})
}

func checkLowered(tx *catalog.Tx, project block.ProjectID, limits map[string]int64) error {
	own, err := tx.QuotaLimits(project)
	if err != nil {
		return err
	}
	used, err := tx.Usage(project)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		_, had := own[name]
		if limit := limits[name]; had && limit != block.Unlimited && limit < used[name] {
			return block.Errorf(block.Invalid, "Quota %s limit must be equal or greater than existing resources. "+
				"Current usage is %d and the requested limit is %d.", name, used[name], limit)
		}
	}
	return nil
}

// DeleteQuotas takes a project back to the defaults, for administrators.
func (s *Service) DeleteQuotas(ctx context.Context, c block.Caller, project block.ProjectID) error {
	if err := mustAdminister(c, "volume_extension:quotas:delete"); err != nil {
		return err
	}
	return s.catalog.Update(ctx, func(tx *catalog.Tx) error { return tx.DeleteQuotas(project) })
}
